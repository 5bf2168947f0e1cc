"""A judge of faces: a FairFace-type classifier through `uniface`, with weights that you bring.

Such a classifier tells categories that its makers chose, by how faces look to annotators; it is no judge of who anyone
is, and it is never to be used on photographs of people. An audit hands it generated pictures only.
"""

from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..pictures import to_pixels
from .run import AuditError
from .tone import of_face


class FaceJudge:
    """Sees the largest face of a picture; a group or an attribute is one of the classifier's labels by its name.

    Args:
        plan: its groups and attributes are named as labels are (any case): Female, Male, 20-29, East Asian and so on.
            A group or an attribute of another name is not judged.
        detector, classifier: ONNX files, of RetinaFace's and FairFace's signatures.

    Raises:
        AuditError: a file is absent, or no group of the plan is a label.
        ImportError: uniface is not installed.
    """

    def __init__(self, plan, detector, classifier):
        try:
            import uniface.attribute.fairface as fairface
            import uniface.detection.retinaface as retinaface
        except ImportError as error:
            raise ImportError(
                f"expected uniface for a judge of faces, got: {error}; pip install 'rs-corrector[faces]'"
            ) from error
        kinds = [
            {label.lower() for label in kind}
            for kind in (("Female", "Male"), fairface.RACE_LABELS, fairface.AGE_LABELS)
        ]
        labels = set().union(*kinds)
        self.called = {name.lower(): name for name in plan.groups if name.lower() in labels}
        self.groups = tuple(self.called.values())
        self.attributes = [name for name in plan.attributes if name.lower() in labels]
        if sum(bool(kind & self.called.keys()) for kind in kinds) > 1:
            raise AuditError(
                f"expected groups of one kind of label, got {', '.join(self.groups)}; a face has one label "
                "of each kind: take another plan for the other kind"
            )
        if not self.groups:
            raise AuditError(
                f"expected a group of the plan among the classifier's labels ({', '.join(sorted(labels))}), got "
                f"{', '.join(plan.groups)}; name groups as labels, or use another judge"
            )
        with weights(retinaface, detector):
            self.detector = retinaface.RetinaFace(providers=["CPUExecutionProvider"])
        with weights(fairface, classifier):
            self.classifier = fairface.FairFace(providers=["CPUExecutionProvider"])
        self.name = f"FairFace labels by {Path(classifier).name}"

    def __call__(self, images):
        told = [self.labels(image) for image in images]
        labels, tone = [found for found, _ in told], [angle for _, angle in told]
        seen = [next((self.called[label] for label in found if label in self.called), "") for found in labels]
        shows = {
            name: np.array([float(name.lower() in found) if found else np.nan for found in labels])
            for name in self.attributes
        }
        return {"seen": seen, "shows": shows, "found": np.array([bool(found) for found in labels]), "tone": tone}

    def labels(self, image):
        """(labels, typology angle) of the largest face of one picture, (3, H, W) RGB in 0..1; ([], NaN) without one."""
        pixels = to_pixels(image)[..., ::-1].copy()  # BGR
        faces = self.detector.detect(pixels, max_num=1, metric="max")
        if not faces:
            return [], np.nan
        found = self.classifier.predict(pixels, faces[0])
        labels = [found.sex.lower(), found.age_group.lower(), found.race.lower()]
        return labels, of_face(image.permute(1, 2, 0).numpy(), faces[0].bbox)


@contextmanager
def weights(module, path):
    """The library looks up weights by name; for as long as this lasts it is given a file."""
    path = Path(path)
    if not path.is_file():
        raise AuditError(f"expected ONNX weights at {path}, got no such file; bring them, none are downloaded")
    known, module.verify_model_weights = module.verify_model_weights, lambda name: str(path)
    try:
        yield
    finally:
        module.verify_model_weights = known
