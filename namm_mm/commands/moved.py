"""Options of configuration groups that have another name now, and the command that takes it."""

from __future__ import annotations

import re

RESEARCH = (
    "pocket_control",
    "pocket_control_curve",
    "pocket_control_limits",
    "pocket_full",
    "pocket_general",
    "pocket_refined",
)
"""Experiments of record, which are in `research/configs` of a clone."""

SCALE = {
    "scale/rl_budgets": "experiment=scale_rl",
    "scale/text_budgets": "experiment=scale_text 'cells=[llama3_8b_budgets]'",
    "scale/text_llama3_70b_4bit": "experiment=scale_text 'cells=[llama3_70b_4bit]'",
    "scale/video_llava_7b": "experiment=scale_video "
    "'cells=[video_llava_7b_longvideobench,video_llava_7b_mlvu]'",
    "scale/video_llava_video_7b": "experiment=scale_video 'cells=[llava_video_7b_longvideobench,"
    "llava_video_7b_mlvu,llava_video_7b_video_mme]'",
    "scale/video_next_128_frames": "experiment=scale_video "
    "'cells=[next_128_frames_longvideobench,next_128_frames_mlvu]'",
    "scale/video_onevision_05b": "experiment=scale_video 'cells=[onevision_05b_longvideobench,"
    "onevision_05b_mlvu,onevision_05b_video_mme]'",
    "scale/video_onevision_7b": "experiment=scale_video 'cells=[onevision_7b_longvideobench,"
    "onevision_7b_mlvu,onevision_7b_video_mme]'",
    "paper_text/longbench_llama3_70b": "experiment=paper_text_70b",
}


def moved(group: str, option: str) -> str:
    """Say which command takes the place of an old option; empty for one that never was.

    Parameters
    ----------
    group
        The configuration group: ``experiment``.
    option
        The name that was asked for: ``paper_rl/hopper_expert``.
    """
    if group != "experiment":
        return ""
    if option in RESEARCH:
        return (
            "It runs in a clone of the repository: "
            f"`namm-mm transfer --configs research/configs experiment={option}`."
        )
    if option in SCALE:
        return f"Run `namm-mm transfer {SCALE[option]}`."
    cell = re.fullmatch(r"(paper_rl|paper_text|paper_video)/(\w+)", option)
    if cell:
        chosen = f"experiment={cell[1]} 'cells=[{cell[2]}]'"
        return f"Run `namm-mm transfer {chosen}`."
    return ""
