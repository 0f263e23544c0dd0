"""No array outlives the image whose voxels it shows: SimpleITK's views do not keep their image alive, and what is read
of a freed one is anything, or the end of the process."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDERS = ("LungRecovery", "LungRecoveryTraining", "Testing")
SOURCES = [path for folder in FOLDERS for path in sorted((REPOSITORY / folder).rglob("*.py"))]


def is_view(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "GetArrayViewFromImage"


def is_held(image: ast.AST) -> bool:
    """Whether an expression is a name, or what a name holds: `ct`, `registration.jacobian`, `dates[0].image`."""
    while isinstance(image, ast.Attribute | ast.Subscript):
        image = image.value
    return isinstance(image, ast.Name)


def views_that_outlive_their_image(source: str) -> list[int]:
    """The lines that view an image which nothing holds, or give the bare view of one away."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if is_view(node) and not is_held(node.args[0]):
            found.append(node.lineno)
        if isinstance(node, ast.Return | ast.Yield) and node.value is not None:
            given = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            found += [node.lineno for value in given if is_view(value)]
    return found


@pytest.mark.parametrize(
    "source",
    [
        "lesions = sitk.GetArrayViewFromImage(assess(ct, lungs).lesions)",
        "brain = sitk.GetArrayViewFromImage(resample_mask(brain, grid)) != 0",
        "def array(image):\n    return sitk.GetArrayViewFromImage(image), 3",
    ],
)
def test_a_view_of_an_image_that_is_gone_is_seen(source):
    assert views_that_outlive_their_image(source)


def test_views_are_taken_of_images_that_are_held():
    texts = {str(path.relative_to(REPOSITORY)): path.read_text(encoding="utf-8") for path in SOURCES}
    assert sum("GetArrayViewFromImage" in text for text in texts.values()) > 50
    found = {path: views_that_outlive_their_image(text) for path, text in texts.items()}
    assert {path: lines for path, lines in found.items() if lines} == {}
