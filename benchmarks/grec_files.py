"""An invented annotation in gRefCOCO's own files, of any size."""

import json
from pathlib import Path

from mcr_lib.data import grec


def write(folder: Path, n: int) -> None:
    """Write an annotation of n expressions, two a ref, on n / 10 images of ten outlined things each."""
    n_images, outline = n // 10, [[k + 0.25 for k in range(60)]]
    images = [
        {"id": k, "file_name": f"COCO_train2014_{k:012}.jpg", "width": 640, "height": 480}
        for k in range(n_images)
    ]
    annotations = [
        {"id": 10 * k + j, "image_id": k, "bbox": [j, k % 300, 20.5, 30], "segmentation": outline}
        for k in range(n_images)
        for j in range(10)
    ]
    refs = [
        {
            "ref_id": k,
            "split": grec.SPLITS[k % 4],
            "image_id": k % n_images,
            "ann_id": [[-1], [10 * (k % n_images)], [1, 2]][k % 3],
            "sentences": [{"sent": f"number {k} of side {side}"} for side in (0, 1)],
        }
        for k in range(n // 2)
    ]
    (folder / "grefcoco").mkdir(parents=True)
    (folder / "grefcoco" / grec.REFS).write_text(json.dumps(refs))
    coco = {"images": images, "annotations": annotations}
    (folder / "grefcoco" / grec.INSTANCES).write_text(json.dumps(coco))
