"""Lung parenchyma freed of the scan's own bias: its baseline, the enhanced image, and what differs between dates.

The method is that of Deep-LungParenchyma-Enhancing (Zhou et al., Nature Machine Intelligence 2022), built anew: the
ring around the tubes is measured in mm and kept inside the lung, lesions are rejected from it, gravity is fitted, and
dates are brought to one inspiration.
"""
