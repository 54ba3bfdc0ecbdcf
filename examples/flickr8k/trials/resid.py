"""Trial: the decoder is trained on top of the look-ahead: softmax over children of logits + log mass of the dense head

Written for one measurement on one trained run; CHECKPOINT, DATA and CACHE are set here. The record is
``runs/dense_trials.json``.
"""

CHECKPOINT, DATA, CACHE = "OUT/checkpoints/checkpoint_best.pt", "OUT/data-bin", "states.pt"
# the decoder learns on top of the dense head's look-ahead: softmax over children of (g + w log mass)
import sys, time, argparse, json, numpy as np, torch, torch.nn.functional as F, os

torch.set_num_threads(1)
p = argparse.ArgumentParser()
p.add_argument("--epochs", type=int, default=4)
p.add_argument("--batch", type=int, default=256)
p.add_argument("--lr", type=float, default=3e-4)
p.add_argument("--w", type=float, default=1.0)
p.add_argument("--share", type=float, default=0.5)
p.add_argument("--rdrop", type=float, default=0.15)
p.add_argument("--fresh", action="store_true")
p.add_argument("--wd", type=float, default=0.01)
p.add_argument("--repeats", type=int, default=6)
p.add_argument("--ls", type=float, default=0.0)
p.add_argument("--densedrop", action="store_true")
p.add_argument("--queries", type=int, default=500)
p.add_argument("--maskgold", type=float, default=0.0)
a = p.parse_args()
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.training.companions import Companions
from cart_fairseq.item_priors import prior_bias
from pathlib import Path

r = CartRetriever.from_pretrained(Path(CHECKPOINT), data=Path(DATA))
m = r.models[0]
data = r.data
items = data.dense_items
enc = m.encoder
dec = m.decoder
trie = data.trie
J = trie.length
bias = prior_bias([m], data, a.share)
cols = data.queries("train", ("item_row", "role"))
rows = cols["item_row"].to_numpy()
role = cols["role"].to_numpy()
comp = Companions(rows, items.known_captions(len(rows)))
from fairseq.data import data_utils, Dictionary

d = Dictionary.load(DATA + "/dict.query.txt")


def toks(s):
    q = data_utils.load_indexed_dataset(f"{DATA}/{s}.query-id.query", d, "mmap")
    return [q[i].long() for i in range(len(q))]


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
        h = enc(src)["encoder_out"][0].transpose(0, 1)
        for k, i in enumerate(ix):
            out[i] = h[k, : len(qs[i]) + 1].half().clone()
    return out


f = CACHE
t = time.time()
if os.path.exists(f):
    tr, va = torch.load(f)
else:
    tr, va = cache(toks("train")), cache(toks("valid"))
    torch.save((tr, va), f)
print("cached", round(time.time() - t), flush=True)
vrows = data.queries("valid", ("item_row",))["item_row"].to_numpy()
values = torch.from_numpy(np.asarray(data.bundle.values)).long()
off = torch.from_numpy(data.bundle.offsets)
sizes = [q.size for q in data.bundle.positions]
N = len(values)
sym = values + off
# prefix ids: group index of every item at each depth
pid = [torch.zeros(N, dtype=torch.long)]
for j in range(J):
    key = pid[-1] * sizes[j] + values[:, j]
    pid.append(key.unique(return_inverse=True)[1])


def eout(hs):
    n = max(len(h) for h in hs)
    x = torch.zeros(len(hs), n, hs[0].size(1))
    pad = torch.ones(len(hs), n, dtype=torch.bool)
    for k, h in enumerate(hs):
        x[k, : len(h)] = h
        pad[k, : len(h)] = False
    s = x.transpose(0, 1).contiguous()
    return {"encoder_out": [s], "encoder_padding_mask": [pad], "encoder_states": [s]}


head = m.dense
head.eval()
head.requires_grad_(False)
if a.fresh:
    for mod in dec.modules():
        if isinstance(mod, (torch.nn.Linear, torch.nn.Embedding)):
            torch.nn.init.xavier_uniform_(mod.weight)
dec.requires_grad_(True)


@torch.no_grad()
def vectors(draw):
    V = []
    allrows = np.arange(N)
    for b in np.array_split(allrows, 8):
        V.append(head.item(items.training_features(b, comp.of_items(b, draw))))
    return torch.cat(V)


@torch.no_grad()
def masses(scores, gold):
    """scores (B,N) -> list over j of (B, size_j) log mass of children along gold's prefix, -inf where none"""
    out = []
    for j in range(J):
        same = pid[j].unsqueeze(0) == pid[j][gold].unsqueeze(1)  # (B,N) items sharing prefix
        s = scores.masked_fill(~same, float("-inf"))
        mx = s.amax(1, keepdim=True)
        e = (s - mx).exp()
        acc = torch.zeros(len(gold), sizes[j]).index_add_(1, values[:, j], e)
        out.append(acc.log() + mx)
    return out


def logits_of(eo, prev):
    feats = dec.extract_features(prev, eo, None) if False else None


rng = np.random.default_rng(1)
draw = np.random.default_rng(2)
pairs = np.concatenate([np.arange(len(rows)), np.repeat(np.flatnonzero(role == "index"), a.repeats - 1)])
nb = len(pairs) // a.batch
opt = torch.optim.AdamW([q for q in dec.parameters()], lr=a.lr, weight_decay=a.wd)
sch = torch.optim.lr_scheduler.OneCycleLR(opt, a.lr, total_steps=a.epochs * nb, pct_start=0.1)
vi = np.unique(vrows)
qsel = np.random.default_rng(0).permutation(len(va))[: a.queries]


@torch.no_grad()
def evaluate(tag):
    dec.eval()
    head.eval()
    K = 50
    V = torch.cat([head.item(items.features(b)) for b in np.array_split(np.arange(N), 8)])
    s = head.scale()
    configs = [(w, g) for w in (1.0, 0.5) for g in (0.0, 0.25, 0.5, 0.75, 1.0)]
    res = {}
    for name, cand in (("1000", torch.from_numpy(vi)), ("all", torch.arange(N))):
        hits = {c: [] for c in configs}
        nodes = [pid[j][cand].unique(return_inverse=True) for j in range(J + 1)]
        tables = []
        for j in range(J):
            tb = torch.full((len(nodes[j][0]), sizes[j]), -1)
            tb[nodes[j][1], values[cand, j]] = nodes[j + 1][1]
            tables.append(tb)
        for at in range(0, len(qsel), 50):
            ix = qsel[at : at + 50]
            eo = eout([va[i] for i in ix])
            B = len(ix)
            pad = ~eo["encoder_padding_mask"][0]
            sc = (
                head.text((eo["encoder_out"][0] * pad.T.unsqueeze(2)).sum(0) / pad.sum(1, keepdim=True)) @ V[cand].T
            ) * s + bias[cand]
            top = sc.topk(K, 1).indices  # (B,K) places in cand
            rowsK = cand[top]
            prev = torch.cat([torch.full((B, K, 1), 2), sym[rowsK][:, :, :-1]], 2).flatten(0, 1)
            e2 = {
                "encoder_out": [eo["encoder_out"][0].repeat_interleave(K, 1)],
                "encoder_padding_mask": [eo["encoder_padding_mask"][0].repeat_interleave(K, 0)],
                "encoder_states": [eo["encoder_out"][0].repeat_interleave(K, 1)],
            }
            lg = dec(prev, e2)[0].float().view(B, K, J, -1)
            gold = torch.from_numpy(vrows[ix]).unsqueeze(1)
            for w in (1.0, 0.5):
                mass = []
                for j in range(J + 1):
                    inv = nodes[j][1]
                    n = len(nodes[j][0])
                    x = sc * w
                    mx = torch.full((B, n), float("-inf")).scatter_reduce_(1, inv.expand(B, -1), x, "amax")
                    mass.append(torch.zeros(B, n).index_add_(1, inv, (x - mx[:, inv]).exp()).log() + mx)
                for g in (0.0, 0.25, 0.5, 0.75, 1.0):
                    tot = torch.zeros(B, K)
                    for j in range(J):
                        ch = tables[j][nodes[j][1][top]]  # B,K,size
                        mm = (
                            mass[j + 1]
                            .gather(1, ch.clamp(min=0).flatten(1))
                            .view_as(ch)
                            .masked_fill(ch < 0, float("-inf"))
                        )
                        z = mm + g * lg[:, :, j, off[j] : off[j] + sizes[j]]
                        tot += z.log_softmax(2).gather(2, values[rowsK, j].unsqueeze(2)).squeeze(2)
                    order = tot.argsort(1, descending=True)
                    hit = rowsK.gather(1, order) == gold
                    hits[(w, g)].append(torch.where(hit.any(1), hit.int().argmax(1), 999))
        res[name] = {
            f"w{c[0]} g{c[1]}": [round(100 * float((torch.cat(h) < k).float().mean()), 1) for k in (1, 5, 10)]
            for c, h in hits.items()
        }
    print(tag, json.dumps(res), flush=True)
    dec.train()


dec.train()
t = time.time()
step = 0
V = None
if not a.fresh:
    evaluate("start")
for e in range(a.epochs):
    for b in np.array_split(rng.permutation(pairs), nb):
        if step % 50 == 0:
            V = vectors(draw)
        c = comp.draw(b, draw)
        gold = torch.from_numpy(rows[b])
        eo = eout([tr[i] for i in b])
        with torch.no_grad():
            if a.densedrop:
                head.train()
            st = (eo["encoder_out"][0] * (~eo["encoder_padding_mask"][0]).T.unsqueeze(2)).sum(0) / (
                ~eo["encoder_padding_mask"][0]
            ).sum(1, keepdim=True)
            u = head.text(st)
            own = head.item(items.training_features(rows[b], c))
            head.eval()
            s = head.scale()
            sc = u @ V.T * s
            sc[torch.arange(len(b)), gold] = (u * own).sum(1) * s
            sc = (sc + bias) * a.w
            ms = masses(sc, gold)
        prev = torch.cat([torch.full((len(b), 1), 2), sym[gold][:, :-1]], 1)
        e2 = {
            "encoder_out": [eo["encoder_out"][0].repeat_interleave(2, 1)],
            "encoder_padding_mask": [eo["encoder_padding_mask"][0].repeat_interleave(2, 0)],
            "encoder_states": [eo["encoder_out"][0].repeat_interleave(2, 1)],
        }
        lg = dec(prev.repeat_interleave(2, 0), e2)[0].float()
        loss = 0
        base = 0
        for j in range(J):
            z = lg[:, j, off[j] : off[j] + sizes[j]] + ms[j].repeat_interleave(2, 0)
            lp = z.log_softmax(1)
            y = values[gold, j]
            loss = loss - lp.gather(1, y.repeat_interleave(2).unsqueeze(1)).mean()
            base = base - ms[j].log_softmax(1).gather(1, y.unsqueeze(1)).mean()
            if a.rdrop:
                P, Q = lp[0::2], lp[1::2]
                ok = P.isfinite()
                D = torch.where(ok, (P.exp() - Q.exp()) * (P - Q).nan_to_num(0, 0, 0), torch.zeros(()))
                loss = loss + a.rdrop * D.sum(1).mean()
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(dec.parameters(), 1.0)
        opt.step()
        sch.step()
        step += 1
        if step % 20 == 1:
            print(
                e,
                step,
                "loss %.3f dense alone %.3f" % (float(loss.detach()), float(base)),
                round(time.time() - t),
                flush=True,
            )
    evaluate(f"{vars(a)} ep{e + 1} {time.time() - t:.0f}s")
