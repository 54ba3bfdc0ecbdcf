"""Readers of the published annotation files of the paper's data sets (CART, appendix A).

Each format has a module, which says where the format is published: `karpathy` (Flickr30k, MS-COCO), `clotho`,
`audiocaps`, `msrvtt`, `msvd`. Every reader returns an `entries.Reading`. `output` writes it as items.jsonl and
captions.jsonl.
"""
