"""Trial: the last layers of the query encoder are trained with the dense head

Written for one measurement on one trained run; CHECKPOINT, DATA and CACHE are set here. The record is
``runs/dense_trials.json``.
"""

CHECKPOINT, DATA, CACHE = "OUT/checkpoints/checkpoint_best.pt", "OUT/data-bin", "states.pt"
# fine-tune the last K layers of the query encoder (and the dense head) by the head's own loss, from the trained checkpoint
import sys, time, argparse, json, copy, numpy as np, torch, torch.nn.functional as F

torch.set_num_threads(1)
p = argparse.ArgumentParser()
p.add_argument("--layers", type=int, default=2)
p.add_argument("--epochs", type=int, default=3)
p.add_argument("--batch", type=int, default=512)
p.add_argument("--lr", type=float, default=5e-5)
p.add_argument("--hlr", type=float, default=3e-4)
p.add_argument("--siam", action="store_true")
p.add_argument("--fresh", action="store_true")
p.add_argument("--wd", type=float, default=0.01)
p.add_argument("--drop", type=float, default=0.1)
a = p.parse_args()
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.network.dense_head import info_nce, DenseHead
from cart_fairseq.training.companions import Companions
from pathlib import Path

r = CartRetriever.from_pretrained(Path(CHECKPOINT), data=Path(DATA))
m = r.models[0]
data = r.data
items = data.dense_items
enc = m.encoder
cols = data.queries("train", ("item_row", "role"))
rows = cols["item_row"].to_numpy()
role = cols["role"].to_numpy()
comp = Companions(rows, items.known_captions(len(rows)))
from fairseq.data import data_utils, Dictionary

d = Dictionary.load(DATA + "/dict.query.txt")


def toks(s):
    q = data_utils.load_indexed_dataset(f"{DATA}/{s}.query-id.query", d, "mmap")
    return [q[i].long() for i in range(len(q))]


T = enc.transformer
L = len(T.encoder.layer)
K = a.layers
low = copy.deepcopy(T)
low.encoder.layer = low.encoder.layer[: L - K]


@torch.inference_mode()
def cache(qs):
    out = [None] * len(qs)
    order = np.argsort([len(q) for q in qs])
    for at in range(0, len(qs), 128):
        ix = order[at : at + 128]
        n = max(len(qs[i]) for i in ix)
        src = torch.full((len(ix), n), 1)
        for k, i in enumerate(ix):
            src[k, : len(qs[i])] = qs[i]
        tk = torch.cat([torch.full((len(ix), 1), enc.start), enc.token_of[src]], 1)
        msk = torch.cat([torch.ones(len(ix), 1), (src != 1)], 1)
        h = low(input_ids=tk, attention_mask=msk.long()).last_hidden_state
        for k, i in enumerate(ix):
            out[i] = h[k, : len(qs[i]) + 1].half().clone()
    return out


t = time.time()
tr = cache(toks("train"))
va = cache(toks("valid"))
print("cached", time.time() - t, flush=True)
vrows = data.queries("valid", ("item_row",))["item_row"].to_numpy()
up = torch.nn.ModuleList(T.encoder.layer[L - K :])
up.requires_grad_(True)
for mod in up.modules():
    if isinstance(mod, torch.nn.Dropout):
        mod.p = a.drop


def run(hs):
    n = max(len(h) for h in hs)
    x = torch.zeros(len(hs), n, hs[0].size(1))
    msk = torch.zeros(len(hs), n)
    for k, h in enumerate(hs):
        x[k, : len(h)] = h
        msk[k, : len(h)] = 1
    bias = (1 - msk)[:, None, None, :] * -1e4
    for l in up:
        o = l(x, attention_mask=bias)
        x = o[0] if isinstance(o, tuple) else o
    return (x * msk[:, :, None]).sum(1) / msk.sum(1, keepdim=True)


head = m.dense
if a.fresh:
    W = items.width
    head = DenseHead(384, W, 512, 0.25, text_dim=items.text_dim)
N = len(data.bundle.kept)
vi = np.unique(vrows)
pos = {v: i for i, v in enumerate(vi)}
gv = np.array([pos[g] for g in vrows])
bank = np.random.default_rng(0).choice(np.flatnonzero(role == "train"), 4000, replace=False)


@torch.no_grad()
def text(st):
    out = []
    order = np.argsort([len(s) for s in st])
    res = torch.empty(len(st), 384)
    for at in range(0, len(st), 256):
        ix = order[at : at + 256]
        res[ix] = run([st[i] for i in ix])
    return res


cen = None


def ev(tag):
    head.eval()
    up.eval()
    with torch.no_grad():
        V = torch.cat([head.item(items.features(b)) for b in np.array_split(np.arange(N), 8)])
        s = float(head.scale())
        S = (head.text(text(va)) @ V.T).numpy() * s
        R = (head.text(text([tr[i] for i in bank])) @ V.T).numpy() * s
    R[np.arange(4000), rows[bank]] = -np.inf
    mx = R.max(0)
    prior = mx + np.log(np.exp(R - mx).sum(0) / np.isfinite(R).sum(0))

    def rec(S, g):
        k = (S > S[np.arange(len(g)), g][:, None]).sum(1)
        return [round(100 * float((k < c).mean()), 1) for c in (1, 5, 10)]

    print(
        tag,
        "scale %.1f" % s,
        "1000:",
        rec(S[:, vi], gv),
        "all:",
        rec(S, vrows),
        "| prior",
        {b: (rec(S[:, vi] - b * prior[vi], gv), rec(S - b * prior, vrows)) for b in (0.5, 1.0)},
        flush=True,
    )
    head.train()
    up.train()


ev("start")
ps = [{"params": up.parameters(), "lr": a.lr}, {"params": head.parameters(), "lr": a.hlr}]
opt = torch.optim.AdamW(ps, weight_decay=a.wd)
nb = -(-len(tr) // a.batch)
sch = torch.optim.lr_scheduler.OneCycleLR(opt, [a.lr, a.hlr], total_steps=a.epochs * nb, pct_start=0.1)
rng = np.random.default_rng(1)
draw = np.random.default_rng(2)
t = time.time()
for e in range(a.epochs):
    perm = rng.permutation(len(tr))
    for k, b in enumerate(np.array_split(perm, nb)):
        c = comp.draw(b, draw)
        u = head.text(run([tr[i] for i in b]))
        v = head.item(items.training_features(rows[b], c))
        loss = info_nce(u, v, torch.from_numpy(rows[b]), head.scale()) / len(b)
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(up.parameters(), 1.0)
        opt.step()
        sch.step()
        if k % 10 == 0:
            print(e, k, round(float(loss.detach()), 3), round(time.time() - t), flush=True)
    ev(f"{vars(a)} ep{e + 1} loss {float(loss):.3f} {time.time() - t:.0f}s")
