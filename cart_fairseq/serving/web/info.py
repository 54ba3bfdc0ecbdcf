"""What ``/api/info`` says: model, catalogue, candidate sets and limits."""

from pathlib import Path
from typing import Any

from cart_fairseq.queries.mixed_input import refuse_mixed
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.serving.service import Service
from cart_fairseq.serving.settings import MIB
from cart_fairseq.serving.web import requests


def info_of(service: Service) -> dict[str, Any]:
    """Describe a service."""
    served, own = service.served, service.settings
    retriever, data = served.retriever, served.data
    model, reason = None, None
    if isinstance(retriever, CartRetriever):
        paths = str(own.path).split(":") if service.model is None else [service.model]
        model = _model(retriever, [Path(each).name for each in paths])
        reason = refuse_mixed(retriever.models, data, retriever.dense_weight)
    width = data.dense_items.original_dim if data.dense_items is not None and reason is None else None
    return {
        "model": model,
        "catalogue": served.shown,
        "candidate_sets": [{"name": name, "items": size} for name, size in served.candidate_sizes.items()],
        "queries": {
            "text": model is not None,
            "item_id": reason is None,
            "embedding": width,
            "media": reason is None and served.takes_media,
            "reason": served.hide(reason) if reason else None,
        },
        "media": own.media_root is not None,
        "limits": {
            "k": own.max_k,
            "queries": requests.MOST_QUERIES,
            "parts": requests.MOST_PARTS,
            "text_characters": requests.MOST_CHARACTERS,
            "candidates": requests.MOST_CANDIDATES,
            "body_bytes": own.max_body_mib * MIB,
            "upload_bytes": own.max_upload_mib * MIB,
            "waiting_queries": own.queue,
            "seconds": own.timeout,
        },
    }


def _model(retriever: CartRetriever, names: list[str]) -> dict[str, Any]:
    """Describe the model that answers; its files have these names."""
    return {
        "checkpoint": names,
        "parameters": sum(each.numel() for model in retriever.models for each in model.parameters()),
        "dense": all(model.dense is not None for model in retriever.models),
        "calibrated": retriever.calibration is not None,
        "beam": retriever.beam,
        "precision": retriever.models[0].precision,
        "device": str(retriever.device),
    }
