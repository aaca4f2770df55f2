"""MCR, re-implemented: multimodal LLMs as cross-modal reasoners for grounded multimodal named entity
recognition.

The modules of this folder are what can be worked out on paper: no torch, no images, no files. A file imports
only from its own folder or from those before it:

    mcr_lib/            schema, boxes, answer, chains, rewards, metrics, bias, ...
    mcr_lib/data/       files -> Examples, predictions, chains, training rows
    mcr_lib/training/   models: torch, TRL
    mcr_lib/testbed/    a synthetic data set with known bait
    mcr_lib/study/      runs, tables, comparisons, figures, the `mcr` command

Paper: "Beyond Unimodal Shortcuts: MLLMs as Cross-Modal Reasoners for Grounded Named Entity Recognition"
(arXiv 2602.04486).
"""

__version__ = "0.1.0"
