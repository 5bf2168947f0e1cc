"""The judge of faces, on tiny ONNX files of the real ones' signatures."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from rs_corrector.audit.faces import FaceJudge
from rs_corrector.audit.plan import parse
from rs_corrector.audit.run import AuditError

PLAN = """[groups]
Female = a woman
Male = a man
[prompts]
plain = a portrait of {group}
[attributes]
20-29 = a person in their twenties | a person of another age
"""


def constant(path, size, outputs):
    """An ONNX file that answers every picture of a size with the same numbers: {name: array}."""
    nodes, declared, values = [], [], []
    zero = helper.make_node("ReduceMean", ["input"], ["zero"], keepdims=0)
    scale = helper.make_node("Mul", ["zero", "none"], ["nothing"])
    values.append(numpy_helper.from_array(np.float32(0), "none"))
    for name, array in outputs.items():
        values.append(numpy_helper.from_array(array.astype(np.float32), f"{name}_value"))
        nodes.append(helper.make_node("Add", [f"{name}_value", "nothing"], [name]))
        declared.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape))
    taken = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, *size])
    graph = helper.make_graph([zero, scale, *nodes], "constant", [taken], declared, values)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def detector(path, faces):
    from uniface.common import generate_anchors

    count = len(generate_anchors(image_size=(640, 640)))
    confidence = np.tile([1.0, 0.0], (1, count, 1))
    confidence[0, :faces, 1] = 0.9
    boxes, points = np.zeros((1, count, 4)), np.zeros((1, count, 10))
    return constant(path, (640, 640), {"loc": boxes, "conf": confidence, "landmarks": points})


def classifier(path, sex, age):
    outputs = {"race": np.eye(7)[[3]], "gender": np.eye(2)[[sex]], "age": np.eye(9)[[age]]}
    return constant(path, (224, 224), outputs)


@pytest.mark.parametrize(("sex", "group"), [(0, "Male"), (1, "Female")])
def test_the_largest_face_is_judged_by_the_classifiers_labels(sex, group, tmp_path):
    judge = FaceJudge(parse(PLAN), detector(tmp_path / "d.onnx", 1), classifier(tmp_path / "c.onnx", sex, 3))
    seen = judge(torch.rand(2, 3, 96, 96))
    assert seen["seen"] == [group] * 2 and seen["shows"]["20-29"].all()
    assert "c.onnx" in judge.name and len(seen["tone"]) == 2


def test_what_the_classifier_has_no_label_for_is_not_judged(tmp_path):
    plan = parse(PLAN.replace("[prompts]", "tall = a tall person\n[prompts]") + "hat = wearing a hat | bare-headed\n")
    judge = FaceJudge(plan, detector(tmp_path / "d.onnx", 1), classifier(tmp_path / "c.onnx", 0, 3))
    assert judge.groups == ("Female", "Male") and set(judge(torch.rand(1, 3, 64, 64))["shows"]) == {"20-29"}


def test_where_no_face_is_found_no_group_is_seen(tmp_path):
    judge = FaceJudge(parse(PLAN), detector(tmp_path / "d.onnx", 0), classifier(tmp_path / "c.onnx", 0, 3))
    seen = judge(torch.rand(1, 3, 64, 64))
    assert seen["seen"] == [""] and np.isnan(seen["shows"]["20-29"]).all() and not seen["found"].any()


def test_groups_of_two_kinds_of_label_are_refused(tmp_path):
    plan = parse(PLAN.replace("[prompts]", "Black = a Black person\n[prompts]"))
    with pytest.raises(AuditError, match="expected groups of one kind of label, got Female, Male, Black"):
        FaceJudge(plan, tmp_path / "d.onnx", tmp_path / "c.onnx")


def test_weights_are_brought_never_downloaded(tmp_path):
    with pytest.raises(AuditError, match="expected ONNX weights at .*got no such file; bring them"):
        FaceJudge(parse(PLAN), tmp_path / "nothing.onnx", tmp_path / "nothing.onnx")


def test_a_plan_without_the_classifiers_labels_is_refused(tmp_path):
    plan = parse(PLAN.replace("Female", "tall").replace("\nMale", "\nshort"))
    with pytest.raises(AuditError, match="expected a group of the plan among the classifier's labels.*got tall, short"):
        FaceJudge(plan, tmp_path / "d.onnx", tmp_path / "c.onnx")
