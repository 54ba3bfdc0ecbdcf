"""Names of the metrics in files, and their labels in tables."""

RECALL_CUTOFFS = (1, 5, 10)
MRR_CUTOFF = 10
METRIC_LABELS = {**{f"recall_at_{k}": f"R@{k}" for k in RECALL_CUTOFFS}, f"mrr_at_{MRR_CUTOFF}": f"MRR@{MRR_CUTOFF}"}
METRIC_NAMES = (*METRIC_LABELS,)
