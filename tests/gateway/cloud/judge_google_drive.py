"""Google's own client for Python, against the emulator at the address given."""

import base64
import hashlib
import io
import sys
import urllib.parse

import google.auth.exceptions
import google.auth.transport.requests
import google.oauth2.credentials
import requests
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError
from googleapiclient.http import MediaIoBaseDownload, MediaIoBaseUpload

BASE, CLIENT_ID, CLIENT_SECRET = sys.argv[1:4]
REDIRECT = "http://127.0.0.1:1/back"
READONLY = "https://www.googleapis.com/auth/drive.readonly"
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"


def granted(scope):
    digest = hashlib.sha256(VERIFIER.encode()).digest()
    query = urllib.parse.urlencode({
        "client_id": CLIENT_ID, "redirect_uri": REDIRECT, "response_type": "code", "scope": scope,
        "state": "s", "access_type": "offline", "prompt": "consent", "code_challenge_method": "S256",
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
    })
    url = f"{BASE}/o/oauth2/v2/auth/decide?{query}"
    reply = requests.post(url, data={"answer": "allow"}, allow_redirects=False)
    back = urllib.parse.parse_qs(urllib.parse.urlparse(reply.headers["location"]).query)
    assert back["iss"] == ["https://accounts.google.com"], back
    answer = requests.post(f"{BASE}/token", data={
        "grant_type": "authorization_code", "code": back["code"][0], "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET, "redirect_uri": REDIRECT, "code_verifier": VERIFIER,
    })
    return answer.json()


def credentials(token, refresh):
    return google.oauth2.credentials.Credentials(
        token, refresh_token=refresh, token_uri=f"{BASE}/token", client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET, scopes=[READONLY],
    )


def drive(held):
    options = {"api_endpoint": f"{BASE}/drive/v3/"}
    return build("drive", "v3", credentials=held, client_options=options, static_discovery=True, cache_discovery=False)


answer = granted(READONLY)
service = drive(credentials(answer["access_token"], None))
user = service.about().get(fields="user").execute()["user"]
assert user["emailAddress"] == "ada@mail.example", user
request = service.files().list(
    q="'root' in parents and trashed=false", pageSize=3, fields="nextPageToken,files(id,name,size)",
    supportsAllDrives=True, includeItemsFromAllDrives=True,
)
names = []
while request is not None:
    page = request.execute()
    names += [file["name"] for file in page["files"]]
    request = service.files().list_next(request, page)
assert len(names) == 7 and "Papers" in names, names
# Whoever leaves the token of the next page out of the mask loses it.
page = service.files().list(q="'root' in parents and trashed=false", pageSize=3, fields="files(id)").execute()
assert "nextPageToken" not in page
drives = service.drives().list().execute()["drives"]
assert [one["name"] for one in drives] == ["Team drive"], drives
within = service.files().list(
    q="'0ADrive' in parents and trashed=false", corpora="drive", driveId="0ADrive",
    supportsAllDrives=True, includeItemsFromAllDrives=True,
).execute()
assert [file["name"] for file in within["files"]] == ["Plans"], within
assert service.files().get(fileId="file5").execute()["size"] == "1234"
try:
    service.files().get(fileId="nothing").execute()
    sys.exit("an unknown file was found")
except HttpError as error:
    assert error.resp.status == 404 and error.error_details[0]["reason"] == "notFound", error

# The bytes: whole, in parts, and put back in a session of chunks.
assert service.files().get_media(fileId="file5").execute() == b"x" * 1234
parts, done = io.BytesIO(), False
download = MediaIoBaseDownload(parts, service.files().get_media(fileId="file5"), chunksize=500)
while not done:
    _, done = download.next_chunk()
assert parts.getvalue() == b"x" * 1234
try:
    service.files().get_media(fileId="folder1").execute()
    sys.exit("a folder was downloaded")
except HttpError as error:
    assert error.resp.status == 403 and error.error_details[0]["reason"] == "fileNotDownloadable", error
writer = drive(credentials(granted("https://www.googleapis.com/auth/drive.file")["access_token"], None))
sent = b"0123456789" * 60_000
media = MediaIoBaseUpload(io.BytesIO(sent), "text/plain", chunksize=1 << 18, resumable=True)
creating = writer.files().create(body={"name": "put.txt", "parents": ["folder1"]}, media_body=media)
# For uploads the client takes the host that it is told, but not the scheme.
creating.uri = creating.uri.replace("https://", "http://")
put = creating.execute()
assert put["md5Checksum"] == hashlib.md5(sent).hexdigest(), put
assert writer.files().get_media(fileId=put["id"]).execute() == sent

# What an app gets that was granted less: Google says so with 403 and a reason.
narrow = granted("https://www.googleapis.com/auth/drive.file")
try:
    drive(credentials(narrow["access_token"], None)).drives().list().execute()
    sys.exit("drive.file listed shared drives")
except HttpError as error:
    assert error.resp.status == 403 and error.error_details[0]["reason"] == "insufficientPermissions"

held = credentials("ya29.expired", answer["refresh_token"])
held.refresh(google.auth.transport.requests.Request())
assert held.token != "ya29.expired" and drive(held).about().get(fields="user").execute()
assert requests.post(f"{BASE}/revoke", data={"token": held.token}).status_code == 200
again = requests.post(f"{BASE}/revoke", data={"token": held.token})
assert again.status_code == 400 and again.json()["error"] == "invalid_token"
try:
    held.refresh(google.auth.transport.requests.Request())
    sys.exit("a revoked refresh token still works")
except google.auth.exceptions.RefreshError as error:
    assert "invalid_grant" in str(error), error
print("judged")
