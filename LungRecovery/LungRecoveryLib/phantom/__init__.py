"""Synthetic chests with known motion, lesions and recovery: sample data, training data and ground truth."""

from .files import write_patient
from .patient import KINDS, Patient, Visit, make_pair, make_patient

__all__ = ["KINDS", "Patient", "Visit", "make_pair", "make_patient", "write_patient"]
