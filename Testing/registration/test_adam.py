"""Our Adam takes the steps of torch's."""

import torch

from LungRecoveryLib.registration.adam import Adam


def test_it_walks_as_torchs_adam_does():
    target = torch.linspace(-2, 3, 24, dtype=torch.float64).reshape(2, 3, 4)

    def loss(values: list[torch.Tensor]) -> torch.Tensor:
        return ((values[0] - target) ** 2).sum() + (values[1] ** 4).sum()

    def start() -> list[torch.Tensor]:
        return [torch.ones(2, 3, 4, dtype=torch.float64, requires_grad=True), torch.full((3,), 0.7, requires_grad=True)]

    ours, theirs = start(), start()
    adam, reference = Adam(ours, 0.3), torch.optim.Adam(theirs, lr=0.3)
    for step in range(30):
        adam.rate = reference.param_groups[0]["lr"] = 0.3 * (1 - step / 40)
        for values, optimiser in ((ours, adam), (theirs, reference)):
            loss(values).backward()
            optimiser.step()
        reference.zero_grad()
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected)
    assert loss(ours) < 0.2 * loss(start())
