"""Readers of the published annotation files of the paper's data sets (CART, appendix A).

One module a format, each of which says where the format is published: `karpathy` (Flickr30k, MS-COCO), `clotho`,
`audiocaps`, `msrvtt`, `msvd`. All give the same `entries.Reading`, which `output` writes as items.jsonl and
captions.jsonl.
"""
