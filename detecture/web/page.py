"""The gradio page. Imports gradio: only `server` imports this module, and late."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from detecture.data.image_files import IMAGE_ENDINGS
from detecture.errors import DetectureError, ImageError, PredictionError
from detecture.web.guard import COOKIE, Places, is_address
from detecture.web.service import MAX_COUNT, SegmentationService
from detecture.web.view import error_html, hint_html, status_html, view_html

AUTOMATIC = "automatic"
CLASS_EXAMPLES = (
    "sky|clouds, water, grass, trees|leaves, stone",
    "red bricks, wooden boards, sand",
    "flower, cup|saucer, table",
)
START_OPACITY = 0.45
ENDINGS = sorted(IMAGE_ENDINGS)
_QUEUE_LENGTH = 20
_UPLOAD_CHECK_SECONDS, _UPLOAD_AGE_SECONDS = 600, 3600
_HINT = hint_html("Drop an image into the box, or click an example.")
_FILES = ("labels", "json", "overlay")

_logger = logging.getLogger(__name__)


def build_page(
    service: SegmentationService, examples: Sequence[Path], max_megabytes: float, places: Places
) -> gr.Blocks:
    """The page, not started yet.

    Args:
        service: answers the requests.
        examples: images to click on.
        max_megabytes: of an upload; stated on the page, enforced by the server.
        places: say which files may be asked about.
    """
    with gr.Blocks(
        title="detecture",
        analytics_enabled=False,
        delete_cache=(_UPLOAD_CHECK_SECONDS, _UPLOAD_AGE_SECONDS),
    ) as page:
        what = (
            "The classes that you name, in an image."
            if service.takes_classes
            else "Every visually distinct texture region of an image."
        )
        gr.Markdown(f"# detecture\n{what}")
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                image = gr.File(
                    label=f"Image: up to {max_megabytes:g} MB and "
                    f"{service.limits.max_pixels / 1e6:g} million pixels",
                    file_types=ENDINGS,
                    height=170,
                    elem_id="dt-image",
                )
                _take_uploads_alone(image, places)
                asked = _question_fields(service)
                again = gr.Button("Segment", variant="primary", elem_id="dt-segment")
                opacity = gr.Slider(
                    0, 1, START_OPACITY, step=0.01, label="Opacity", elem_id="dt-opacity"
                )
                with gr.Row():
                    downloads = [
                        gr.DownloadButton(
                            label, interactive=False, size="sm", min_width=80, elem_id=f"dt-{name}"
                        )
                        for name, label in zip(
                            _FILES, ("Label PNG", "JSON", "Overlay"), strict=True
                        )
                    ]
            with gr.Column(scale=3):
                message = gr.HTML(_HINT, elem_id="dt-message")
                view = gr.HTML(elem_id="dt-result")
        shown = [view, message, *downloads]

        def segment(
            image: str | None,
            regions: str | None,
            request: gr.Request,
            granularity: float | None = None,
        ) -> list[Any]:
            # Clients that do not use the page may leave it empty.
            question = {
                "count": None if regions in (None, "", AUTOMATIC) else int(regions),
                "granularity": granularity,
            }
            return _respond(service, places, image, question, request)

        def find(
            image: str | None, classes: str | None, background: float | None, request: gr.Request
        ) -> list[Any]:
            question = {"classes": classes or "", "background": background or 0.0}
            return _respond(service, places, image, question, request)

        respond = find if service.takes_classes else segment

        # One at a time: the page then shows the others their place in the queue.
        common: dict[str, Any] = {
            "inputs": [image, *asked],
            "outputs": shown,
            "concurrency_limit": 1,
            "concurrency_id": "model",
            "show_progress_on": [message],
        }
        # This comes first, or another event takes the name.
        again.click(respond, **common, api_name="segment")
        image.upload(respond, **common, api_visibility="private")
        image.clear(_blank, outputs=shown, queue=False, api_visibility="private")
        opacity.change(None, opacity, None, js="(value) => window.detecture.setOpacity(value)")
        if service.takes_granularity:
            regions, granularity = asked
            # While it is pulled, only the last place waits.
            granularity.input(
                respond, **common, trigger_mode="always_last", api_visibility="private"
            )
            regions.change(
                lambda count: gr.Slider(interactive=count == AUTOMATIC),
                regions,
                granularity,
                queue=False,
                api_visibility="private",
            )
        if service.takes_classes:
            chosen = _add_class_examples(asked[0])
            chosen.then(respond, **common, api_visibility="private")
            asked[0].submit(respond, **common, api_visibility="private")
        if examples:
            _add_examples(examples, image).then(respond, **common, api_visibility="private")

        def leave(request: gr.Request) -> None:
            service.forget(_user(request))

        page.unload(leave)
    page.queue(max_size=_QUEUE_LENGTH, default_concurrency_limit=1)
    return page


def _question_fields(service: SegmentationService) -> list[Any]:
    """What to ask about an image: regions and granularity, or classes and a background."""
    if service.takes_classes:
        return [
            gr.Textbox(
                CLASS_EXAMPLES[0],
                label="Classes",
                info="Commas between classes, bars between names of one class",
                lines=2,
                max_lines=8,
                submit_btn=False,
                elem_id="dt-classes",
            ),
            gr.Slider(
                0,
                1,
                service.predictor.background,  # type: ignore[union-attr]
                step=0.01,
                label="Background: where the best score is below this (0: none)",
                elem_id="dt-background",
            ),
        ]
    known = service.predictor.count  # type: ignore[union-attr]
    told = str(known) if known and known <= MAX_COUNT else AUTOMATIC
    fields = [
        gr.Dropdown(
            [AUTOMATIC, *map(str, range(1, MAX_COUNT + 1))],
            value=told,
            label="Number of regions",
            elem_id="dt-regions",
        )
    ]
    if service.takes_granularity:
        fields.append(
            gr.Slider(
                -1,
                1,
                service.predictor.granularity,  # type: ignore[union-attr]
                step=0.05,
                label="Coarser .. finer",
                info="0: the model's own choice; for an automatic number of regions",
                interactive=told == AUTOMATIC,
                elem_id="dt-granularity",
            )
        )
    return fields


def _add_class_examples(field: gr.Textbox) -> Any:
    """Texts for the field; a click on one puts it there."""
    texts = gr.Dataset(
        components=[gr.Textbox(visible=False)],
        samples=[[text] for text in CLASS_EXAMPLES],
        type="index",
        label="Classes to try",
        elem_id="dt-class-examples",
    )
    return texts.click(
        lambda index: CLASS_EXAMPLES[index], texts, field, queue=False, api_visibility="private"
    )


def _take_uploads_alone(box: gr.File, places: Places) -> None:
    """Let a file box take uploads and examples, and nothing else.

    gradio's own file box fetches whatever URL a request names in place of a file, and leaves an
    empty temporary file behind at every request. The methods are set on the instance, because
    gradio writes a stub file next to the source of every subclass.
    """
    move = box.async_move_resource_to_block_cache

    async def refuse_others(path: str | Path | None) -> str | None:
        if path is not None and (is_address(str(path)) or not places.holds(str(path))):
            raise gr.Error(
                "This page takes uploaded files, not addresses or other paths.",
                print_exception=False,
            )
        return await move(path)

    def path_of(payload: Any) -> str | None:
        return None if payload is None else str(payload.path)

    box.async_move_resource_to_block_cache = refuse_others
    box.preprocess = path_of


def _add_examples(examples: Sequence[Path], image: gr.File) -> Any:
    """Thumbnails; a click on one puts it into the box."""
    thumbnails = gr.Dataset(
        components=[gr.Image(visible=False)],
        samples=[[str(path)] for path in examples],
        sample_labels=None,
        type="index",
        label="Examples",
        elem_id="dt-examples",
    )
    return thumbnails.click(
        lambda index: str(examples[index]),
        thumbnails,
        image,
        queue=False,
        api_visibility="private",
    )


def _respond(
    service: SegmentationService,
    places: Places,
    image: str | None,
    question: dict[str, Any],
    request: gr.Request,
) -> list[Any]:
    """Values of the outputs; any error becomes a message on the page."""
    try:
        owner = places.owner(request.cookies.get(COOKIE))
        if image and not places.may_read(owner, image):
            raise ImageError("this image is not there, or not yours: drop it into the box again")
        answer = service.answer(_user(request), image, owner=owner, **question)
        view, status = view_html(answer.result), status_html(answer)
    except PredictionError:
        # What a method raises goes to the log only, since it may contain anything.
        _logger.exception("the method failed on an image")
        return _failed(
            "the method failed on this image: something went wrong on the server, and its log "
            "says what; try another number of regions, other classes, or another image"
        )
    except DetectureError as error:
        return _failed(str(error))
    except Exception:
        # For example, a device out of memory: this request ends, the server goes on.
        _logger.exception("a request failed")
        return _failed("something went wrong on the server; its log says what. Please try again")
    ready = [gr.DownloadButton(value=str(answer.files[n]), interactive=True) for n in _FILES]
    return [view, status, *ready]


def _failed(text: str) -> list[Any]:
    return ["", error_html(text), *_blank()[2:]]


def _blank() -> list[Any]:
    return ["", _HINT, *(gr.DownloadButton(value=None, interactive=False) for _ in _FILES)]


def _user(request: gr.Request) -> str:
    return request.session_hash or "no session"
