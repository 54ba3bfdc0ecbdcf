"""Which rivals of the paper's Tables 1 to 3 can be run, with which weights, and why the others cannot.

This list is what README.md, `pretrained.py` and the guide mean by coverage. The paper names no weights of its rivals,
except "huge" for ImageBind and the modality for LanguageBind. The weights here are our choice.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rival:
    """A pretrained model.

    Attributes:
        key: its name on the command line.
        name: its name in the tables.
        weights: for a dual tower FAMILY:NAME of `extract_embeddings --encoder`, for a single tower a name on the hub.
        modalities: media that it searches here.
        published: its rows in `published.FIGURES`; empty: it is not in the paper.
        single: whether it is a single tower.
        needs: what must be installed beside the extras [benchmark] and [encoders].
    """

    key: str
    name: str
    weights: str
    modalities: tuple[str, ...]
    published: str = ""
    single: bool = False
    needs: str = ""


OPEN_CLIP = "open_clip_torch, torchvision"
LANGUAGE_BIND = "LanguageBind, transformers<4.54"
RIVALS = (
    Rival("blip2", "BLIP-2", "Salesforce/blip2-itm-vit-g", ("image",), "BLIP-2", single=True),
    Rival("clip", "CLIP", "clip:openai/clip-vit-base-patch32", ("image", "video"), "CLIP"),
    Rival("openclip", "OpenCLIP", "openclip:ViT-B-32@laion2b_s34b_b79k", ("image", "video"), "OpenCLIP", needs=OPEN_CLIP),
    Rival(
        "mobileclip", "MobileCLIP", "openclip:MobileCLIP-B@datacompdr", ("image", "video"), "MobileCLIP",
        needs=f"{OPEN_CLIP}, timm",
    ),
    Rival(
        "mobileclip2", "MobileCLIP 2", "openclip:MobileCLIP2-B@dfndr2b", ("image", "video"), needs=f"{OPEN_CLIP}, timm"
    ),
    Rival("siglip2", "SigLIP 2", "siglip:google/siglip2-so400m-patch14-384", ("image", "video")),
    Rival("clap", "CLAP-HTSAT", "clap:laion/clap-htsat-unfused", ("audio",), "CLAP-HTSAT"),
    Rival("pe-av", "PE-AV", "pe-av:facebook/pe-av-large", ("image", "audio", "video"), needs="timm, torchvision"),
    Rival("imagebind", "ImageBind", "imagebind", ("image", "audio", "video"), "ImageBind (huge)", needs="ImageBind"),
    Rival(
        "languagebind-image", "LanguageBind (image)", "languagebind:LanguageBind/LanguageBind_Image", ("image",),
        "LanguageBind (image)", needs=LANGUAGE_BIND,
    ),
    Rival(
        "languagebind-audio", "LanguageBind (audio)", "languagebind:LanguageBind/LanguageBind_Audio_FT", ("audio",),
        "LanguageBind (audio)", needs=LANGUAGE_BIND,
    ),
    Rival(
        "languagebind-video", "LanguageBind (video)", "languagebind:LanguageBind/LanguageBind_Video_FT", ("video",),
        "LanguageBind (video)", needs=LANGUAGE_BIND,
    ),
)  # fmt: skip

OWN_CODE = "only its authors' research code loads it; no maintained package carries it"
NOT_CARRIED = {
    "InternVL-G": "its weights need code that comes with them (`trust_remote_code`), which is not run here",
    "ONE-PEACE (pretrained)": OWN_CODE,
    "HTSAT-BERT": OWN_CODE,
    "VALOR-B": OWN_CODE,
    "CLIP2Video": OWN_CODE,
    "CLIP4Clip": "only its authors' research code loads the paper's model; no maintained package carries it",
    "UMT-B": OWN_CODE,
    "Cap4Video": OWN_CODE,
}
"""Rivals that cannot be run here -> why. Their names are those of `published.FIGURES`."""

RUNS = {
    "coarse-fine": {1: "CART", 2: "CART", 3: "CART, coarse-fine ids"},
    "semantic": {3: "GRACE, semantic ids"},
    "structured": {3: "GRACE, structured ids"},
    "atomic": {3: "GRACE, atomic ids"},
}
"""Scheme of a trained run -> table -> the row of `published.FIGURES` beside which it stands."""
