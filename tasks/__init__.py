"""Tasks: data sets and environments, with the scoring of answers. A task knows no model."""

if __name__ != "namm_mm.tasks":
    raise ImportError("import it as 'namm_mm.tasks': the top-level folder is a source directory")

from namm_mm.registry.registry import Registry
from namm_mm.tasks.base import ActingTask, AnsweringTask, Task

TASKS: Registry[type[Task]] = Registry(
    "task",
    "namm_mm.tasks",
    {
        "choubun": "namm_mm.tasks.choubun:ChouBunTask",
        "infinitebench": "namm_mm.tasks.infinitebench:InfiniteBenchTask",
        "long_text": "namm_mm.tasks.long_text:LongTextTask",
        "longbench": "namm_mm.tasks.longbench:LongBenchTask",
        "video_qa": "namm_mm.tasks.video_qa:VideoQaTask",
        "film_qa": "namm_mm.tasks.video_qa.film:FilmQaTask",
        "image_qa": "namm_mm.tasks.image_qa:ImageQaTask",
        "longvideobench": "namm_mm.tasks.longvideobench:LongVideoBenchTask",
        "mlvu": "namm_mm.tasks.mlvu:MlvuTask",
        "speech_qa": "namm_mm.tasks.speech_qa:SpeechQaTask",
        "video_mme": "namm_mm.tasks.video_mme:VideoMmeTask",
        "offline_rl": "namm_mm.tasks.offline_rl:OfflineRlTask",
    },
    bases=(AnsweringTask, ActingTask),
)
