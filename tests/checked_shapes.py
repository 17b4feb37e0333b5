"""A pytest plugin (-p checked_shapes): the shapes in the annotations are checked at every call.

jaxtyping rewrites the modules as they are imported; beartype then looks at each argument and result. An int may stand
for a float, as PEP 484 has it.
"""

from jaxtyping import install_import_hook

CHECKED = [f"samerge_edu.{room}" for room in ("masks", "matrices", "transforms", "merges")]
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"

install_import_hook(CHECKED, CHECKER)
