#!/usr/bin/env python
"""Make the images of docs/web.md: starts the demo, drives it in headless Chromium.

  python tests/web/screenshots.py --output docs/images
  python tests/web/screenshots.py --output docs/images --config-file my.yaml KEY VALUE ...

Writes web_automatic.jpg, web_granularity.jpg, web_count.jpg, web_broken.jpg, web_40mp.jpg,
web_two_browsers.jpg, and prints what the page says of times, and the peak memory of the server's
process.
Needs playwright and a Chromium (DETECTURE_CHROMIUM names one where it is not on the PATH).
"""

import argparse
import io
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from PIL import Image

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "tests"))

from web.chromium import (  # noqa: E402
    browser,
    choose_count,
    give,
    open_page,
    wait_for_message,
    wait_for_regions,
)

PHOTOS = REPO / "datasets/samples/photos"
LARGEST = 200_000  # bytes of an image in docs
SLOW = 600.0  # seconds that a large model may take


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def save_jpeg(shots, path):
    """Screenshots side by side as one JPEG below the limit."""
    images = [Image.open(io.BytesIO(shot)).convert("RGB") for shot in shots]
    width = sum(p.width for p in images) + 8 * (len(images) - 1)
    sheet = Image.new("RGB", (width, max(p.height for p in images)), (120, 120, 120))
    left = 0
    for image in images:
        sheet.paste(image, (left, 0))
        left += image.width + 8
    for quality in range(90, 20, -5):
        data = io.BytesIO()
        sheet.save(data, format="JPEG", quality=quality, optimize=True)
        if data.tell() <= LARGEST:
            break
    path.write_bytes(data.getvalue())
    print(f"{path}: {data.tell()} bytes")


def large_image(folder, megapixels=40):
    """A photograph enlarged to so many million pixels, as JPEG."""
    photo = Image.open(PHOTOS / "coffee.jpg")
    scale = (megapixels * 1e6 / (photo.width * photo.height)) ** 0.5
    size = (int(photo.width * scale), int(photo.height * scale))
    path = folder / f"photo_{megapixels}mp.jpg"
    photo.resize(size, Image.Resampling.BICUBIC).save(path, quality=92)
    return path


def peak_memory(process):
    """Peak resident memory of a process in MiB (Linux); None elsewhere."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.is_file():
        return None
    return int(re.search(r"VmHWM:\s+(\d+)", status.read_text()).group(1)) / 1024


def start_demo(arguments):
    """The demo as a process of its own; returns it and its address."""
    port = free_port()
    command = [sys.executable, str(REPO / "tools/demo_web.py"), "--port", str(port), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    if "open" not in line:
        raise SystemExit(f"the demo did not start: {line}")
    return process, f"http://127.0.0.1:{port}/"


def take(url, process, output, folder):
    with browser() as chromium:
        page = open_page(chromium, url)
        give(page, PHOTOS / "coffee.jpg")
        wait_for_regions(page, SLOW)
        print(wait_for_message(page, "region"))
        box = page.locator(".dt-stage canvas").bounding_box()
        # Two moves: the first one only enters the image.
        for step in (0.5, 0.52):
            page.mouse.move(box["x"] + box["width"] * step, box["y"] + box["height"] * 0.3)
        save_jpeg([page.screenshot()], output / "web_automatic.jpg")
        page.mouse.move(2, 2)

        shots = []
        for granularity, told in (("-0.8", "region"), ("0", "region"), ("1", "6 regions")):
            page.locator("#dt-granularity input[type=number]").fill(granularity)
            page.keyboard.press("Tab")
            time.sleep(2.0)
            wait_for_regions(page)
            print(granularity, wait_for_message(page, told, SLOW))
            shots.append(page.screenshot())
        save_jpeg(shots, output / "web_granularity.jpg")

        choose_count(page, "5")
        print(wait_for_message(page, "5 regions", SLOW))
        wait_for_regions(page)
        page.locator("#dt-opacity input[type=number]").fill("0.75")
        page.keyboard.press("Tab")
        time.sleep(0.5)
        save_jpeg([page.screenshot()], output / "web_count.jpg")

        broken = folder / "broken.jpg"
        broken.write_bytes((PHOTOS / "china.jpg").read_bytes()[:9000])
        give(page, broken)
        print(wait_for_message(page, "broken.jpg", SLOW))
        save_jpeg([page.screenshot()], output / "web_broken.jpg")

        print(f"server: {psutil.Process(process.pid).memory_info().rss / 2**20:.0f} MiB now")
        start = time.perf_counter()
        give(page, large_image(folder))
        print(wait_for_message(page, "photo_40mp.jpg", SLOW))
        wait_for_regions(page)
        print(f"upload to overlay: {time.perf_counter() - start:.1f} s; peak memory of the server: "
              f"{peak_memory(process):.0f} MiB")  # fmt: skip
        save_jpeg([page.screenshot()], output / "web_40mp.jpg")
        page.context.close()

        pages = [open_page(chromium, url) for _ in range(2)]
        for one in pages:
            one.set_viewport_size({"width": 900, "height": 860})
        give(pages[0], PHOTOS / "flower.jpg")
        give(pages[1], PHOTOS / "china.jpg")
        for one in pages:
            wait_for_regions(one, SLOW)
            print(wait_for_message(one, "region"))
        save_jpeg([one.screenshot() for one in pages], output / "web_two_browsers.jpg")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    args, arguments = parser.parse_known_args()
    args.output.mkdir(parents=True, exist_ok=True)
    process, url = start_demo(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            take(url, process, args.output, Path(folder))
    finally:
        process.send_signal(signal.SIGTERM if os.name == "posix" else signal.CTRL_C_EVENT)
        process.wait(timeout=30)


if __name__ == "__main__":
    main()
