"""How light skin is drawn: the individual typology angle (Chardon et al. 1991), in which lightening shows.

In degrees: above 55 very light, to 41 light, to 28 intermediate, to 10 tan, to -30 brown, below that dark. It is a
measure of pictures and of their light, not of people.
"""

import numpy as np

#: sRGB with linear channels to CIE XYZ, for the white of D65 (IEC 61966-2-1).
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def typology_angle(rgb):
    """(..., 3) sRGB in 0..1 -> (...) degrees: arctan((L* - 50) / b*) of CIE L*a*b*."""
    rgb = np.asarray(rgb, np.float64)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    _, y, z = np.moveaxis(_compressed(linear @ TO_XYZ.T / TO_XYZ.sum(1)), -1, 0)
    return np.degrees(np.arctan2(116 * y - 66, np.maximum(200 * (y - z), 1e-6)))


def _compressed(t):
    return np.where(t > (6 / 29) ** 3, np.cbrt(t), t * (29 / 6) ** 2 / 3 + 4 / 29)


def of_face(image, box):
    """The median angle of a face's middle: image (H, W, 3) sRGB in 0..1, box (left, top, right, bottom) in pixels."""
    left, top, right, bottom = box
    x0, x1 = left + (right - left) * 0.3, left + (right - left) * 0.7
    y0, y1 = top + (bottom - top) * 0.5, top + (bottom - top) * 0.8
    height, width = image.shape[:2]
    rows = slice(*np.clip((round(y0), round(y1) + 1), 0, height))
    columns = slice(*np.clip((round(x0), round(x1) + 1), 0, width))
    middle = image[rows, columns].reshape(-1, 3)
    return float(np.median(typology_angle(middle))) if len(middle) else float("nan")
