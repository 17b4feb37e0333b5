"""Write samerge_edu/suites/pocket/scans/digits.npz from the digits that scikit-learn ships.

    pip install scikit-learn && python data_scripts/make_real_digits.py

Images as they are, 8 x 8 with values 0 to 16, and labels, both uint8: 1,797 of each, in scikit-learn's order. Needed
only if the file is lost: it is in the repository, and scikit-learn is no dependency of the package. How the digits are
shown to a model is in samerge_edu/suites/pocket/scanned.py.
"""

from pathlib import Path

import numpy as np

TARGET = Path(__file__).resolve().parents[1] / "samerge_edu" / "suites" / "pocket" / "scans" / "digits.npz"
COUNT = 1797


def main() -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target.astype(np.uint8)
    if images.shape != (COUNT, 8, 8) or images.max() != 16 or (images != digits.images).any():
        raise ValueError(f"got {images.shape} with values to {digits.images.max()}, expected ({COUNT}, 8, 8) to 16")
    np.savez_compressed(TARGET, images=images, labels=labels)
    print(f"{TARGET.name}: {len(labels)} images, {TARGET.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
