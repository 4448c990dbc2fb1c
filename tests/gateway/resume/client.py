"""tuspy, as applications use it: one file, in chunks, with its own retries."""

import json
import sys

from tusclient import client

endpoint, token, path, chunk = sys.argv[1:5]
tus = client.TusClient(endpoint, headers={"Authorization": f"Bearer {token}"})
upload = tus.uploader(
    path, chunk_size=int(chunk), retries=100, retry_delay=0, metadata={"filename": "big.bin"}
)
upload.upload()
print(json.dumps({"url": upload.url}))
