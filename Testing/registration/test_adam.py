"""Our Adam takes the steps of torch's, with and without Nesterov's momentum."""

import pytest
import torch

from LungRecoveryLib.registration.adam import Adam


def nadam(values: list[torch.Tensor]) -> torch.optim.Optimizer:
    # Torch lets the momentum rise slowly; so large a decay makes it what it was given, from the first step on.
    return torch.optim.NAdam(values, lr=0.3, betas=(0.8, 0.999), momentum_decay=1e6)


@pytest.mark.parametrize(
    ("options", "theirs_of"),
    [({}, lambda values: torch.optim.Adam(values, lr=0.3)), ({"ahead": True}, nadam)],
)
def test_it_walks_as_torchs_does(options, theirs_of):
    target = torch.linspace(-2, 3, 24, dtype=torch.float64).reshape(2, 3, 4)

    def loss(values: list[torch.Tensor]) -> torch.Tensor:
        return ((values[0] - target) ** 2).sum() + (values[1] ** 4).sum()

    def start() -> list[torch.Tensor]:
        return [torch.ones(2, 3, 4, dtype=torch.float64, requires_grad=True), torch.full((3,), 0.7, requires_grad=True)]

    ours, theirs = start(), start()
    adam, reference = Adam(ours, 0.3, **options), theirs_of(theirs)
    for step in range(30):
        adam.rate = reference.param_groups[0]["lr"] = 0.3 * (1 - step / 40)
        for values, optimiser in ((ours, adam), (theirs, reference)):
            loss(values).backward()
            optimiser.step()
        reference.zero_grad()
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected)
    assert loss(ours) < 0.2 * loss(start())
