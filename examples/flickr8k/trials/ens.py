"""Trial: dense heads trained alone on the frozen encoder, and sums of several

Written for one measurement on one trained run; CHECKPOINT, DATA and CACHE are set here. The record is
``runs/dense_trials.json``.
"""

CHECKPOINT, DATA, CACHE = "OUT/checkpoints/checkpoint_best.pt", "OUT/data-bin", "states.pt"
import sys, time, argparse, json, numpy as np, torch, os

torch.set_num_threads(1)
from pathlib import Path
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.network.dense_head import info_nce, DenseHead
from cart_fairseq.training.companions import Companions

r = CartRetriever.from_pretrained(Path(CHECKPOINT), data=Path(DATA))
m = r.models[0]
data = r.data
items = data.dense_items
cols = data.queries("train", ("item_row", "role"))
rows = cols["item_row"].to_numpy()
role = cols["role"].to_numpy()
comp = Companions(rows, items.known_captions(len(rows)))
vrows = data.queries("valid", ("item_row",))["item_row"].to_numpy()
tr, va = torch.load(CACHE)
Q = torch.stack([t.float().mean(0) for t in tr])
QV = torch.stack([t.float().mean(0) for t in va])
del tr, va
N = len(data.bundle.kept)
vi = np.unique(vrows)
pos = {v: i for i, v in enumerate(vi)}
gv = np.array([pos[g] for g in vrows])
bank = np.random.default_rng(0).choice(np.flatnonzero(role == "train"), 4000, replace=False)


def train(seed, epochs=10, batch=512, dim=512, drop=0.2, lr=1e-3, wd=1e-2, smooth=0.0, noise=0.0, maxscale=100.0):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    draw = np.random.default_rng(seed + 1000)
    head = DenseHead(384, items.width, dim, drop, text_dim=items.text_dim)
    for mod in head.modules():
        if isinstance(mod, torch.nn.Linear):
            torch.nn.init.xavier_uniform_(mod.weight)
            torch.nn.init.zeros_(mod.bias)
    head.reset_straight()
    head.train()
    opt = torch.optim.AdamW(head.parameters(), lr, weight_decay=wd)
    nb = -(-len(rows) // batch)
    sch = torch.optim.lr_scheduler.OneCycleLR(opt, lr, total_steps=epochs * nb)
    for e in range(epochs):
        for b in np.array_split(rng.permutation(len(rows)), nb):
            f = items.training_features(rows[b], comp.draw(b, draw))
            q = Q[b]
            if noise:
                q = q + noise * q.std() * torch.randn_like(q)
            u = head.text(q)
            v = head.item(f)
            s = head.scale().clamp(max=maxscale)
            loss = info_nce(u, v, torch.from_numpy(rows[b]), s) / len(b)
            opt.zero_grad()
            loss.backward()
            opt.step()
            sch.step()
    head.eval()
    return head


@torch.no_grad()
def scores(head, maxscale=100.0):
    V = torch.cat([head.item(items.features(b)) for b in np.array_split(np.arange(N), 8)])
    s = float(head.scale().clamp(max=maxscale))
    return (head.text(QV) @ V.T * s).numpy(), (head.text(Q[bank]) @ V.T * s).numpy()


def rec(S, g):
    k = (S > S[np.arange(len(g)), g][:, None]).sum(1)
    return [round(100 * float((k < c).mean()), 1) for c in (1, 5, 10)]


def report(tag, S, R):
    R = R.copy()
    R[np.arange(4000), rows[bank]] = -np.inf
    mx = R.max(0)
    prior = mx + np.log(np.exp(R - mx).sum(0) / np.isfinite(R).sum(0))
    print(
        tag,
        "1000:",
        rec(S[:, vi], gv),
        "all:",
        rec(S, vrows),
        "| prior",
        {b: (rec(S[:, vi] - b * prior[vi], gv), rec(S - b * prior, vrows)) for b in (0.5, 1.0)},
        flush=True,
    )


if __name__ == "__main__":
    report("checkpoint", *scores(m.dense))
    sets = json.loads(sys.argv[1])
    total = None
    for i, kw in enumerate(sets):
        t = time.time()
        h = train(**{"seed": i + 1, **kw})
        S, R = scores(h)
        report(f"{kw} scale {float(h.scale()):.1f} {time.time() - t:.0f}s", S, R)
        total = (S, R) if total is None else (total[0] + S, total[1] + R)
        if i:
            report(f"  sum of {i + 1} mean", total[0] / (i + 1), total[1] / (i + 1))
