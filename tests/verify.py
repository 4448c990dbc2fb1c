#!/usr/bin/env python3
"""A second opinion on Dayfly's receipts: the checks of `dayfly verify`, without any of its code.

    verify.py FILE [--log-key FILE]     exit status: 0 proven, 1 disproven, 2 unreadable,
                                        3 no inclusion shown, 4 log key not pinned
    verify.py --batch LOG_KEY           lines of base64 on stdin, a status for each on stdout

Standard library alone; Ed25519 is RFC 8032's own, in as few lines as it takes.
"""
import base64, functools, hashlib, json, re, sys

P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
def add(a, b):
    x, y, z, t = a; u, v, w, s = b
    e, f, g, h = (y-x)*(v-u) % P, (y+x)*(v+u) % P, 2*t*s*D % P, 2*z*w % P
    p, q, r, o = f-e, h-g, h+g, f+e
    return p*q % P, r*o % P, q*r % P, p*o % P
def mul(k, a):
    out = (0, 1, 1, 0)
    while k:
        out, a, k = (add(out, a) if k & 1 else out), add(a, a), k >> 1
    return out
def point(b):
    n = int.from_bytes(b, "little"); sign, y = n >> 255, n & (2**255 - 1)
    x2 = (y*y - 1) * pow(D*y*y + 1, P - 2, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x*x - x2) % P: x = x * pow(2, (P - 1) // 4, P) % P
    if y >= P or (x*x - x2) % P or (x == 0 and sign): raise Bad(1)
    if x & 1 != sign: x = P - x
    return x, y, 1, x*y % P
def ed25519(key, text, sig):
    r, s = sig[:32], int.from_bytes(sig[32:], "little")
    k = int.from_bytes(hashlib.sha512(r + key + text).digest(), "little") % L
    base = point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
    a, b = mul(s, base), add(point(r), mul(k, point(key)))
    return s < L and not (a[0]*b[2] - b[0]*a[2]) % P and not (a[1]*b[2] - b[1]*a[2]) % P

class Bad(Exception): pass
def need(good, status):
    if not good: raise Bad(status)
def sha(*parts): return hashlib.sha256(b"".join(parts)).digest()
def b64(text, size):
    try: raw = base64.b64decode(text, validate=True)
    except ValueError: raise Bad(2)
    need(base64.b64encode(raw).decode() == text and (size is None or len(raw) == size), 2)
    return raw
def field(text, name):
    return next((l[len(name) + 1:] for l in text.split("\n") if l.startswith(name + " ")), None)
@functools.lru_cache(64)
def checked(note, verifier):
    """The text of a note with one signature, by the key of that line (C2SP signed-note)."""
    need("\n\n" in note and note.endswith("\n") and not re.search("[\0-\x09\x0b-\x1f]", note), 2)
    text, sigs = note.rsplit("\n\n", 1)
    lines = [re.fullmatch("\u2014 (\\S+) (\\S+)", l) for l in sigs[:-1].split("\n")]
    need(all(lines), 2)
    raws = [b64(l[2], None) for l in lines]
    parts = (verifier or "").split("+", 2)
    need(len(parts) == 3 and all(len(r) > 4 for r in raws), 2)
    name, key_id, key = parts[0], parts[1], b64(parts[2], 33)
    own = sha(name.encode(), b"\n", key)[:4]
    need(key[0] == 1 and own.hex() == key_id, 2)
    need(len(lines) == 1 and lines[0][1] == name and raws[0][:4] == own and len(raws[0]) == 68, 1)
    need(ed25519(key[1:], (text + "\n").encode(), raws[0][4:]), 1)
    return text + "\n"
def root(leaf, index, size, path):
    """RFC 9162, section 2.1.3.2."""
    need(index < size and len(path) <= 64, 1)
    fn, sn, r = index, size - 1, sha(b"\0", leaf)
    for p in path:
        need(sn, 1)
        if fn & 1 or fn == sn:
            r = sha(b"\1", p, r)
            while not fn & 1 and fn: fn, sn = fn >> 1, sn >> 1
        else: r = sha(b"\1", r, p)
        fn, sn = fn >> 1, sn >> 1
    need(sn == 0, 1)
    return r
def once(pairs):
    need(len(dict(pairs)) == len(pairs), 2)
    return dict(pairs)

def judge(raw, pin):
    text = raw.decode()
    proof = json.loads(text, object_pairs_hook=once) if text.startswith("{") else None
    if proof is not None:
        shape = dict(note=str, kind=int, blind=str, index=int, path=list, checkpoint=str)
        need({k: type(v) for k, v in proof.items()} == shape, 2)
        need(0 <= proof["index"] < 2**64 and 0 <= proof["kind"] < 256, 2)
        need(all(type(p) is str for p in proof["path"]), 2)
    note = proof["note"] if proof else text
    need("\n\n" in note, 2)
    body = note.rsplit("\n\n", 1)[0]
    kinds = {("boot", None): [0], ("closing", None): [3], ("receipt", "live"): [1],
             ("receipt", "final"): [2, 4]}
    head = body.split("\n")[0]
    need(head in ("dayfly/v1 boot", "dayfly/v1 closing", "dayfly/v1 receipt"), 2)
    what = head[10:]
    kind = kinds.get((what, field(body, "state") if what == "receipt" else None))
    need(kind, 2)
    boot = note if kind == [0] else "".join(l[5:] + "\n" for l in body.split("\n") if l[:5] == "boot|")
    stated = boot.split("\n\n", 1)[0] if "\n\n" in boot else ""
    log, pen = field(stated, "log"), field(stated, "pen")
    need(log and pen, 2)
    signed = checked(boot, log)
    if kind != [0]: signed = checked(note, pen)
    need(pin is None or pin.strip() == log, 1)
    if proof:
        need(proof["kind"] in kind, 1)
        lines = checked(proof["checkpoint"], log).split("\n")
        need(len(lines) >= 4 and lines[0] and all(lines[:-1]), 2)
        need(re.fullmatch("0|[1-9][0-9]*", lines[1]) and int(lines[1]) < 2**64, 2)
        hashed = sha(b"dayfly/v1 leaf\0", b64(proof["blind"], 32), signed.encode())
        path = [b64(p, 32) for p in proof["path"]]
        need(lines[0] == log.split("+")[0], 1)
        found = root(bytes([proof["kind"]]) + hashed, proof["index"], int(lines[1]), path)
        need(found == b64(lines[2], 32), 1)
    return 4 if pin is None else 0 if proof else 3

def status(raw, pin):
    try: return judge(raw, pin)
    except Bad as bad: return bad.args[0]
    except (ValueError, RecursionError): return 2

if __name__ == "__main__":
    args = sys.argv[1:]
    if args[0] == "--batch":
        pin = open(args[1]).read()
        for line in sys.stdin: print(status(base64.b64decode(line), pin), flush=True)
    else:
        pin = open(args[2]).read() if len(args) == 3 and args[1] == "--log-key" else None
        sys.exit(status(open(args[0], "rb").read(), pin))
