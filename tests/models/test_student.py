from __future__ import annotations

import torch

from pileupgen.models.networks.student import END, RELEASE, Student
from tests.models.test_networks import scramble


def made(has_noise: bool = True) -> Student:
    student = Student(8, 4, 6, 16, 2, (2, 2), mirror=True, has_noise=has_noise)
    rng = torch.Generator().manual_seed(6)
    student.maps.add_(0.1 * torch.randn(student.maps.shape, generator=rng))
    student.offsets.add_(0.1 * torch.randn(student.offsets.shape, generator=rng))
    return student


def inputs(n: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    x, eps = torch.randn(2, n, 8, 4, 6, generator=rng)
    return x, torch.tensor([40.0, 55.0, 60.0, torch.nan])[:n], eps


def test_a_student_begins_as_the_closed_form():
    student, (x, mu, eps) = made(), inputs()
    with torch.no_grad():
        release, end = student(x, mu, eps)
    assert torch.equal(release, student.in_closed_form(RELEASE, x, eps))
    assert torch.equal(end, student.in_closed_form(END, x, eps))
    assert float((release - end).abs().max()) > 0.1


def test_the_closed_form_is_the_matrix_of_each_frequency():
    student, (x, _, eps) = made(), inputs()
    found = student.modes.coordinates(student.in_closed_form(END, x, eps))
    of_x, of_eps = (student.modes.coordinates(value) for value in (x, eps))
    for column, frequency in enumerate(student.modes.frequency.tolist()):
        first, second = student.maps[END, :, frequency]
        expected = of_x[column] @ first.T + of_eps[column] @ second.T
        if column == 0:
            expected = expected + student.offsets[END] * 12**0.5
        torch.testing.assert_close(found[column], expected, atol=1e-5, rtol=1e-5)


def test_a_roll_by_whole_patches_commutes_with_a_student():
    for has_noise in (False, True):
        student, (x, mu, eps) = made(has_noise), inputs()
        scramble(student)
        given = (eps,) if has_noise else ()
        plain = student(x, mu, *given)
        rolled = student(x.roll(2, 3), mu, *(part.roll(2, 3) for part in given))
        for one, other in zip(plain, rolled, strict=True):
            torch.testing.assert_close(other, one.roll(2, 3), atol=1e-3, rtol=1e-3)


def test_conditions_beyond_those_of_training_are_its_ends():
    student, (x, _, eps) = made(), inputs()
    scramble(student)
    student.condition.standardise(torch.tensor([40.0, 60.0, 80.0]))
    low, beyond = (student(x, torch.full((4,), mu), eps)[END] for mu in (80.0, 200.0))
    assert torch.equal(low, beyond)
    assert not torch.equal(low, student(x, torch.full((4,), 40.0), eps)[END])
