"""Pictures of what was kept are true to the history; an episode is rendered from its actions."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest
from PIL import Image
from synthetic_records import make_history

from namm_mm.errors import RunError
from namm_mm.results import drawing, episode_film
from namm_mm.runs.history import History, save

pytestmark = pytest.mark.slow  # several seconds with what the file sets up


WHITE = Image.new("RGB", (8 * 64, 64), "white")


def test_a_token_of_a_sound_is_as_dark_as_it_is_forgotten() -> None:
    history = make_history("speech_qa")
    picture = drawing.shaded(Image.new("RGB", (4 * 64, 64), "white"), history, 2, 1, 0)
    size = picture.shape[0]
    kept = history.kept(2, 1, 0)
    for token in range(35):
        second, place = divmod(token, 10)
        x = second * size + (2 * place + 1) * size // 20
        expected = 255 * (1 - drawing.DARKEST * (1 - kept[token]))
        assert picture[size // 2, x] == pytest.approx([expected] * 3, abs=1)
    assert picture[size // 2, -size // 4] == pytest.approx([255] * 3)  # beyond its end: as drawn


def test_a_patch_is_as_dark_as_it_is_forgotten() -> None:
    history = make_history("video_qa")
    picture = drawing.shaded(WHITE, history, 0, 1, 0)
    frames = history.of_kind("frame", history.kept(0, 1, 0))
    size = picture.shape[0]
    for place, patches in enumerate(frames):
        for patch, kept in enumerate(patches):
            row, column = divmod(patch, 2)
            y = (2 * row + 1) * size // 4
            x = place * size + (2 * column + 1) * size // 4
            unseen = np.isnan(kept)
            expected = 169 if unseen else 255 * (1 - drawing.DARKEST * (1 - kept))
            assert picture[y, x] == pytest.approx([expected] * 3, abs=1)


def test_a_film_falls_back_on_a_gif(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [Image.new("RGB", (31, 21), colour) for colour in ("red", "blue")]
    assert drawing.save_film(pictures, tmp_path / "a.mp4").suffix == ".mp4"

    def refuse(*_: object) -> None:
        raise ValueError("no encoder")

    monkeypatch.setattr(drawing, "_encode", refuse)
    gif = drawing.save_film(pictures, tmp_path / "b.mp4")
    with Image.open(gif) as film:
        assert (gif.name, getattr(film, "n_frames", 1)) == ("b.gif", 2)


@pytest.fixture
def episode(tmp_path: Path) -> Path:
    environment = gymnasium.make("Hopper-v5")
    environment.reset(seed=5)
    actions = np.zeros((12, 3), np.float32)
    rewards = tuple(float(environment.step(action)[1]) for action in actions)
    environment.close()
    blank = make_history("offline_rl")
    facts = {**vars(blank), "rewards": rewards, "actions": actions}
    facts |= {"environment": "Hopper-v5", "seed": 5}
    return tmp_path / save(History(**facts), tmp_path, "hopper")


def test_an_episode_is_rendered_again_from_its_actions(episode: Path, tmp_path: Path) -> None:
    import av

    film = episode_film.render(episode, tmp_path / "film.mp4", pictures=3)
    if film is None:
        pytest.skip("nothing here renders MuJoCo: neither EGL nor OSMesa")
    with av.open(str(film)) as opened:
        assert len(list(opened.decode(video=0))) == 3


def test_another_environment_is_not_passed_off_as_the_episode(
    episode: Path, tmp_path: Path
) -> None:
    from namm_mm.runs.history import read

    facts = {**vars(read(episode)), "rewards": (9.0,) * 12}
    other = tmp_path / save(History(**facts), tmp_path, "other")
    assert episode_film.render(other, tmp_path / "film.mp4", pictures=2) is None
    assert not (tmp_path / "film.mp4").exists()
    with pytest.raises(RunError, match="another environment"):
        episode_film.replay(read(other), lambda _step, _environment: None)
