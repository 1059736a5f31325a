"""Procedural texture images: an endless supply with masks, attributes and sentences.

    from detecture.data.synthetic import render_scene
    scene = render_scene(seed=1, index=0)
    scene.image, scene.masks, scene.descriptions

`render_scene(seed, index, size=256, num_regions=None, edition=1) -> Scene` draws one image of 1
to 6 texture regions. It depends on its arguments alone: not on other images, their order, the
process, or the number of threads. There is no bank of textures and no state to prepare.

What is alike on other machines: images are computed in double precision with numpy and scipy and
rounded to 8 bits at the end, by no image library and without BLAS. Processors and library builds
may differ in the last bits of exp, cos and Fourier transforms. Such a difference of about 1e-13
grey levels changes a rounded value with a chance of about one in 1e12, so that the 2e8 values of a
thousand images are the same with near certainty; it is not guaranteed. (Tried: numpy's code for
AVX2 and AVX-512 switched off, the same bytes.) A numpy release may also
change the stream of `Generator.standard_normal` and the like (NEP 19); the test of the frozen
hashes would say so.

Two editions: 1 is frozen with `synthetic_test`, 2 (`edition=2`) has more families and layouts,
textures that vary inside their region, and the colours, light and cameras of photographs.

Families of textures are registered with `families.family`, layouts with `layouts.layout`.
"""

from detecture.data.lexicon.attributes import RegionAttributes
from detecture.data.synthetic.editions import FIRST_EDITION, LATEST_EDITION
from detecture.data.synthetic.families import FAMILIES
from detecture.data.synthetic.layouts import LAYOUTS
from detecture.data.synthetic.scene import (
    DEFAULT_SIZE,
    LEAST_SIZE,
    MOST_REGIONS,
    Scene,
    plan_of,
    render_scene,
)

__all__ = [
    "DEFAULT_SIZE",
    "FAMILIES",
    "FIRST_EDITION",
    "LATEST_EDITION",
    "LAYOUTS",
    "LEAST_SIZE",
    "MOST_REGIONS",
    "RegionAttributes",
    "Scene",
    "plan_of",
    "render_scene",
]
