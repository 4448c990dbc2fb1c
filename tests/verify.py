#!/usr/bin/env python3
"""A second opinion on Dayfly's receipts, with nothing but Python: verify.py FILE [--log-key FILE]
Status 0 proven, 1 disproven, 2 unreadable, 3 no inclusion shown, 4 log key not pinned.
verify.py --batch LOG_KEY judges lines of base64 from stdin, a status for each on stdout."""
import base64, functools, hashlib, json, re, sys
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D, HEADS = -121665 * pow(121666, -1, P) % P, {("boot", None): [0], ("closing", None): [3],
                                            ("receipt", "live"): [1], ("receipt", "final"): [2, 4]}
class Bad(Exception): pass
def need(good, status):
    if not good: raise Bad(status)
def add(a, b):
    (x, y, z, t), (u, v, w, s) = a, b
    e, f, g, h = (y-x)*(v-u) % P, (y+x)*(v+u) % P, 2*t*s*D % P, 2*z*w % P
    return (f-e)*(h-g) % P, (h+g)*(f+e) % P, (h-g)*(h+g) % P, (f-e)*(f+e) % P
def mul(k, a, out=(0, 1, 1, 0)):
    while k: out, a, k = (add(out, a) if k & 1 else out), add(a, a), k >> 1
    return out
def point(b):
    n = int.from_bytes(b, "little"); sign, y = n >> 255, n % 2**255
    x2 = (y*y - 1) * pow(D*y*y + 1, -1, P) % P
    x = next((x for x in (pow(x2, (P+3)//8, P) * r % P for r in (1, pow(2, (P-1)//4, P)))
              if (x*x - x2) % P == 0), None)
    need(x is not None and y < P and (x or not sign), 1)
    return (x, y, 1, x*y % P) if x % 2 == sign else (P - x, y, 1, -x*y % P)
def ed25519(key, text, sig):  # RFC 8032
    s, k = int.from_bytes(sig[32:], "little"), hashlib.sha512(sig[:32] + key + text).digest()
    a = mul(s, point((4 * pow(5, -1, P) % P).to_bytes(32, "little")))
    b = add(point(sig[:32]), mul(int.from_bytes(k, "little") % L, point(key)))
    return s < L and not (a[0]*b[2] - b[0]*a[2]) % P and not (a[1]*b[2] - b[1]*a[2]) % P
def sha(*parts): return hashlib.sha256(b"".join(parts)).digest()
def b64(text, size=None):
    raw = base64.b64decode(text, validate=True)
    need(base64.b64encode(raw).decode() == text and size in (None, len(raw)), 2)
    return raw
def field(text, name): return next((l[len(name)+1:] for l in text.split("\n") if l.startswith(name + " ")), None)
@functools.lru_cache(64)
def checked(note, verifier):  # the text of a note with one signature, by that key (C2SP signed-note)
    need("\n\n" in note and note[-1] == "\n" and not re.search("[\0-\x09\x0b-\x1f]", note), 2)
    text, lines = note.rsplit("\n\n", 1)
    lines = [re.fullmatch("\u2014 (\\S+) (\\S+)", l) for l in lines[:-1].split("\n")]
    parts = (verifier or "").split("+", 2)
    need(all(lines) and len(parts) == 3, 2)
    raws, key = [b64(l[2]) for l in lines], b64(parts[2], 33)
    own = sha(parts[0].encode(), b"\n", key)[:4]
    need(all(len(r) > 4 for r in raws) and key[0] == 1 and own.hex() == parts[1], 2)
    need(len(lines) == 1 and lines[0][1] == parts[0] and raws[0][:4] == own and len(raws[0]) == 68, 1)
    need(ed25519(key[1:], (text + "\n").encode(), raws[0][4:]), 1)
    return text + "\n"
def root(r, fn, sn, path):  # RFC 9162, section 2.1.3.2
    for p in path:
        need(sn, 1)
        r = sha(b"\1", p, r) if fn & 1 or fn == sn else sha(b"\1", r, p)
        while fn == sn and fn and not fn & 1: fn, sn = fn >> 1, sn >> 1
        fn, sn = fn >> 1, sn >> 1
    need(sn == 0, 1)
    return r
def once(pairs): need(len(dict(pairs)) == len(pairs), 2); return dict(pairs)
def judge(raw, pin):
    text = raw.decode()
    proof = json.loads(text, object_pairs_hook=once) if text[:1] == "{" else None
    if proof is not None:
        shape = dict(note=str, kind=int, blind=str, index=int, path=list, checkpoint=str)
        need({k: type(v) for k, v in proof.items()} == shape and 0 <= proof["index"] < 2**64
             and 0 <= proof["kind"] < 256 and all(type(p) is str for p in proof["path"]), 2)
    note = proof["note"] if proof else text
    need("\n\n" in note, 2)
    body = note.rsplit("\n\n", 1)[0]; head = body.split("\n")[0]
    kind = HEADS.get((head[10:], field(body, "state") if head[10:] == "receipt" else None))
    need(head[:10] == "dayfly/v1 " and kind, 2)
    boot = note if kind == [0] else "".join(l[5:] + "\n" for l in body.split("\n") if l[:5] == "boot|")
    stated = boot.split("\n\n", 1)[0] if "\n\n" in boot else ""
    log, pen = field(stated, "log"), field(stated, "pen")
    need(log and pen, 2)
    signed = checked(boot, log)
    if kind != [0]: signed = checked(note, pen)
    need(pin is None or pin.strip() == log, 1)
    if proof is None: return 4 if pin is None else 3
    need(proof["kind"] in kind, 1)
    lines = checked(proof["checkpoint"], log).split("\n")
    need(len(lines) >= 4 and all(lines[:-1]) and re.fullmatch("0|[1-9][0-9]*", lines[1]), 2)
    leaf = bytes([proof["kind"]]) + sha(b"dayfly/v1 leaf\0", b64(proof["blind"], 32), signed.encode())
    size, path, top = int(lines[1]), [b64(p, 32) for p in proof["path"]], b64(lines[2], 32)
    need(size < 2**64, 2)
    need(lines[0] == log.split("+")[0] and proof["index"] < size and len(path) <= 64, 1)
    need(root(sha(b"\0", leaf), proof["index"], size - 1, path) == top, 1)
    return 4 if pin is None else 0
def status(raw, pin):
    try: return judge(raw, pin)
    except Bad as bad: return bad.args[0]
    except (ValueError, RecursionError): return 2
if __name__ == "__main__":
    args, text = sys.argv[1:], lambda path: open(path).read()
    if args[0] == "--batch":
        for line in sys.stdin: print(status(base64.b64decode(line), text(args[1])), flush=True)
    else: sys.exit(status(open(args[0], "rb").read(), text(args[2]) if len(args) == 3 else None))
