"""MCR, re-implemented: multimodal LLMs as cross-modal reasoners for grounded multimodal named entity
recognition.

The root floor of this package is what can be worked out on paper (no torch, no images, no files). Below it
lie three floors, and a file imports only from its own floor or from floors above it:

    mcr_lib/           schema, boxes, answer, matching, metrics, bias, ...     the task, the paper, what a number means
    mcr_lib/sources/   files -> Examples
    mcr_lib/stages/    models: torch, TRL
    mcr_lib/study/     runs, folders, pictures, the `mcr` command

Paper: "Beyond Unimodal Shortcuts: MLLMs as Cross-Modal Reasoners for Grounded Named Entity Recognition"
(arXiv 2602.04486).
"""

__version__ = "0.1.0"
