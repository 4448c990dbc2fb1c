"""Dropbox's own client for Python, against the emulator at the address given."""

import hashlib
import sys

import dropbox
import requests
from dropbox.exceptions import ApiError, AuthError
from requests.adapters import HTTPAdapter

BASE, CLIENT_ID, CLIENT_SECRET = sys.argv[1:4]


class Detour(HTTPAdapter):
    """Sends what is meant for Dropbox's hosts to the emulator."""

    def send(self, request, **options):
        for host in ("api.dropboxapi.com", "content.dropboxapi.com", "api.dropbox.com", "www.dropbox.com"):
            request.url = request.url.replace(f"https://{host}", BASE)
        return super().send(request, **options)


session = requests.Session()
session.mount("https://", Detour())
REDIRECT = "http://127.0.0.1:1/back"


def allowed(flow_url):
    """What the person does on the service's page: allows."""
    url = flow_url.replace("https://www.dropbox.com", BASE)
    query = url.split("?", 1)[1]
    reply = requests.post(f"{BASE}/oauth2/authorize/decide?{query}", data={"answer": "allow"}, allow_redirects=False)
    assert reply.status_code == 302, reply.status_code
    back = requests.utils.urlparse(reply.headers["location"])
    return dict(pair.split("=", 1) for pair in back.query.split("&"))


LISTING = ["account_info.read", "files.metadata.read"]


def granted(pkce, offline, scope=LISTING):
    store = {}
    flow = dropbox.DropboxOAuth2Flow(
        CLIENT_ID, REDIRECT, store, "csrf",
        consumer_secret=None if pkce else CLIENT_SECRET,
        token_access_type="offline" if offline else "online",
        scope=scope, use_pkce=pkce,
    )
    flow.requests_session = session
    back = allowed(flow.start())
    back = {name: requests.utils.unquote(value) for name, value in back.items()}
    return flow.finish(back)


for pkce in (False, True):
    result = granted(pkce, offline=True)
    assert result.refresh_token and result.account_id.startswith("dbid:"), result
    assert set(result.scope.split()) == {"account_info.read", "files.metadata.read"}

online = granted(True, offline=False)
assert not online.refresh_token, online
client = dropbox.Dropbox(online.access_token, session=session)
account = client.users_get_current_account()
assert account.email == "ada@mail.example" and account.name.display_name == "Ada Example"
page = client.files_list_folder("", limit=2)
names = [entry.name for entry in page.entries]
while page.has_more:
    page = client.files_list_folder_continue(page.cursor)
    names += [entry.name for entry in page.entries]
assert len(names) == 5 and names[0] == "Papers", names
inside = client.files_list_folder("id:folder1").entries
assert isinstance(inside[0], dropbox.files.FileMetadata) and inside[0].size == 1234
assert client.files_get_metadata("id:file5").name == "inside.txt"
try:
    client.files_list_folder("id:nothing")
    sys.exit("an unknown folder was listed")
except ApiError as error:
    assert error.error.get_path().is_not_found(), error
client.auth_token_revoke()
try:
    client.users_get_current_account()
    sys.exit("a revoked token still works")
except AuthError as error:
    assert error.error.is_invalid_access_token(), error

# A refresh token gives another access token, as the client sees it.
offline = granted(False, offline=True)
client = dropbox.Dropbox(
    oauth2_refresh_token=offline.refresh_token, app_key=CLIENT_ID, app_secret=CLIENT_SECRET, session=session,
)
assert client.users_get_current_account().account_id == offline.account_id

# The bytes: by id and by revision, with the hash of Dropbox's page; put back in a session.
held = granted(True, offline=False, scope=LISTING + ["files.content.read", "files.content.write"])
client = dropbox.Dropbox(held.access_token, session=session)
meta, reply = client.files_download("id:file5")
assert reply.content == b"x" * 1234 and meta.size == 1234, meta
assert meta.content_hash == hashlib.sha256(hashlib.sha256(b"x" * 1234).digest()).hexdigest()
assert client.files_download(f"rev:{meta.rev}")[0].id == meta.id
start = client.files_upload_session_start(b"one ")
cursor = dropbox.files.UploadSessionCursor(start.session_id, 4)
client.files_upload_session_append_v2(b"two ", cursor)
try:
    client.files_upload_session_append_v2(b"two ", cursor)
    sys.exit("a wrong offset was taken")
except ApiError as error:
    assert error.error.get_incorrect_offset().correct_offset == 8, error
cursor.offset = 8
commit = dropbox.files.CommitInfo("id:folder1/put.txt", autorename=True)
put = client.files_upload_session_finish(b"three", cursor, commit)
assert put.size == 13 and client.files_download(put.id)[1].content == b"one two three", put
try:
    client.files_download("id:nothing")
    sys.exit("an unknown file was downloaded")
except ApiError as error:
    assert error.error.get_path().is_not_found(), error
print("judged")
