"""What tests of the panel do to it and look for in the scene."""


def composites(scene) -> list:
    """The slice views' layers."""
    return [
        node
        for i in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode"))
        if (node := scene.GetNthNodeByClass(i, "vtkMRMLSliceCompositeNode"))
    ]


def choose(combo, data: str) -> None:
    """Choose an entry of a combo box by its data."""
    index = combo.findData(data)
    assert index >= 0, data
    combo.setCurrentIndex(index)
