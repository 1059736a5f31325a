"""The words of the sentences about regions, by the value of the attribute."""

POSITION_PHRASES: dict[str, tuple[str, ...]] = {
    "whole": ("across the whole picture", "filling the entire picture"),
    "surrounding": ("around the middle", "surrounding the middle of the picture"),
    "most": ("over most of the picture", "covering most of the picture"),
    "spread": ("spread over the picture", "spread across the picture"),
    "centre": ("in the centre", "in the middle of the picture"),
    "left": ("on the left", "on the left side", "at the left of the picture"),
    "right": ("on the right", "on the right side", "at the right of the picture"),
    "top": ("at the top", "in the upper part", "at the top of the picture"),
    "bottom": ("at the bottom", "in the lower part", "at the bottom of the picture"),
    "upper left": ("in the upper left", "in the upper left part"),
    "upper right": ("in the upper right", "in the upper right part"),
    "lower left": ("in the lower left", "in the lower left part"),
    "lower right": ("in the lower right", "in the lower right part"),
}
SCALE_WORDS = {"fine": "fine", "medium": "medium-sized", "coarse": "coarse"}
CONTRAST_WORDS = {"low": "low-contrast", "medium": "moderate-contrast", "high": "high-contrast"}
CONTRAST_PHRASES = {
    "low": "with low contrast",
    "medium": "with moderate contrast",
    "high": "with high contrast",
}
ORIENTATION_PHRASES = {
    "horizontal": "running horizontally",
    "vertical": "running vertically",
    "diagonal": "running diagonally",
}
