"""The files that video reading is held to: containers x codecs x kinds of GOP, whole and broken.

Each file has a name; :class:`Shelf` makes it, and what it is made from, when it is asked for.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from video_files import FRAMES, RATE, damage, encode, encoders, ffmpeg

_X264 = "-c:v libx264 -pix_fmt yuv420p"
_GOP = f"{_X264} -g 15 -bf 2"
_OPEN = f"{_X264} -x264-params open-gop=1:keyint=15:bframes=3"
_REFRESH = f"{_X264} -x264-params intra-refresh=1:keyint=15"
_X265 = "-c:v libx265 -pix_fmt yuv420p -x265-params log-level=none:keyint=15"
_VP9 = "-c:v libvpx-vp9 -cpu-used 8 -g 15 -b:v 300k"
_MPEG2 = "-c:v mpeg2video -bf 2 -g 12 -q:v 3"
_MPEG4 = "-c:v mpeg4 -bf 2 -g 12 -q:v 3"
_UNEVEN = f"""-vf "setpts='if(lt(N,20),N,if(lt(N,40),3*N-40,2*N))/{RATE}/TB'" -fps_mode vfr"""

_UPRIGHT_SEI = "-c copy -bsf:v h264_metadata=display_orientation=insert:rotate=90"
_EARLY = "-c copy -output_ts_offset -0.5 -avoid_negative_ts disabled"
_SECOND = "-disposition:v:0 0 -disposition:v:1 default"

ENCODED = {
    "h264.mp4": _GOP,
    "h264.mov": _GOP,
    "h264.mkv": _GOP,
    "h264.avi": _GOP,
    "h264.ts": _GOP,
    "h264.flv": _GOP,
    "h264.h264": _GOP,
    "h264_faststart.mp4": f"{_GOP} -movflags faststart",
    "h264_fragmented.mp4": f"{_GOP} -movflags frag_keyframe+empty_moov",
    "h264_dash.mp4": f"{_GOP} -movflags dash+frag_every_frame",
    "h264_live.mkv": f"{_GOP} -f matroska -live 1",
    "h264_open.mp4": _OPEN,
    "h264_open.mkv": _OPEN,
    "h264_open.ts": _OPEN,
    "h264_refresh.mp4": _REFRESH,
    "h264_refresh.mkv": _REFRESH,
    "h264_refresh.ts": _REFRESH,
    "h264_pyramid.mp4": f"{_X264} -g 30 -x264-params b-pyramid=normal:bframes=7:ref=4",
    "h264_one_key.mp4": f"{_X264} -g 250",
    "h264_interlaced.mp4": f"{_GOP} -flags +ilme+ildct -x264-params tff=1",
    "h264_wide_pixels.mp4": f"{_GOP} -vf setsar=16/11",
    "h264_444.mp4": "-c:v libx264 -pix_fmt yuv444p -g 15",
    "h264_422.mp4": "-c:v libx264 -pix_fmt yuv422p -g 15",
    "h264_rgb.mp4": "-c:v libx264rgb -g 15",
    "h264_10bit.mp4": "-c:v libx264 -pix_fmt yuv420p10le -g 15",
    "h264_gray.mp4": "-c:v libx264 -pix_fmt gray -g 15",
    "h264_full_range.mp4": "-c:v libx264 -pix_fmt yuvj420p -g 15",
    "h264_bt709.mp4": f"{_GOP} -colorspace bt709 -color_primaries bt709 -color_range tv",
    "h264_odd_size.mp4": "-vf crop=125:93:0:0 -c:v libx264 -pix_fmt yuv444p -g 15",
    "h264_crop.mp4": f"-vf crop=126:94:0:0 {_GOP}",
    "hevc.mp4": _X265,
    "hevc.mkv": _X265,
    "hevc.ts": _X265,
    "hevc_closed.mp4": f"{_X265}:open-gop=0",
    "hevc_refresh.mp4": f"{_X265}:intra-refresh=1",
    "hevc_10bit.mp4": _X265.replace("yuv420p", "yuv420p10le"),
    "vp8.webm": "-c:v libvpx -g 15 -b:v 500k",
    "vp8_hidden.webm": "-c:v libvpx -g 15 -b:v 500k -auto-alt-ref 1 -lag-in-frames 16",
    "vp8_alpha.webm": "-c:v libvpx -g 15 -b:v 500k -pix_fmt yuva420p -auto-alt-ref 0",
    "vp9.webm": _VP9,
    "vp9.mp4": _VP9,
    "vp9_live.webm": f"{_VP9} -f webm -live 1",
    "vp9_444.webm": f"{_VP9} -pix_fmt yuv444p",
    "av1.mp4": "-c:v libsvtav1 -preset 12 -g 15",
    "av1.mkv": "-c:v libsvtav1 -preset 12 -g 15",
    "av1_aom.webm": "-c:v libaom-av1 -cpu-used 8 -g 15",
    "mpeg1.mpg": "-c:v mpeg1video -bf 2 -g 12 -q:v 3",
    "mpeg2.mpg": _MPEG2,
    "mpeg2.vob": _MPEG2,
    "mpeg2.ts": _MPEG2,
    "mpeg2.mkv": _MPEG2,
    "mpeg2.mp4": _MPEG2,
    "mpeg2.m2v": _MPEG2,
    "mpeg2_interlaced.ts": f"{_MPEG2} -flags +ilme+ildct",
    "mpeg4.avi": _MPEG4,
    "mpeg4.mp4": _MPEG4,
    "mpeg4.mkv": _MPEG4,
    "mpeg4_uneven.avi": f"{_UNEVEN} {_MPEG4}",
    "wmv2.wmv": "-c:v wmv2 -g 12 -q:v 3",
    "wmv2.avi": "-c:v wmv2 -g 12 -q:v 3",
    "msmpeg4.avi": "-c:v msmpeg4 -g 12 -q:v 3",
    "theora.ogv": "-c:v libtheora -g 12 -q:v 7",
    "theora.mkv": "-c:v libtheora -g 12 -q:v 7",
    "prores.mov": "-c:v prores_ks",
    "prores_alpha.mov": "-c:v prores_ks -pix_fmt yuva444p10le",
    "mjpeg.avi": "-c:v mjpeg -q:v 3",
    "mjpeg.mov": "-c:v mjpeg -q:v 3",
    "flv1.flv": "-c:v flv -g 12 -q:v 3",
    "ffv1.mkv": "-c:v ffv1",
    "raw.avi": "-c:v rawvideo -pix_fmt yuv420p",
    "animated.gif": "-f gif",
    "animated.png": "-f apng",
    "frames.y4m": "-pix_fmt yuv420p",
    "uneven.mp4": f"{_UNEVEN} {_GOP}",
    "uneven.mkv": f"{_UNEVEN} {_GOP}",
    "uneven.ts": f"{_UNEVEN} {_GOP}",
    "uneven.webm": f"{_UNEVEN} -c:v libvpx -g 15",
    "gap.mp4": f"""-vf "setpts='(N+if(gte(N,30),900,0))/{RATE}/TB'" -fps_mode vfr {_GOP}""",
}
"""Name -> ffmpeg's options. All show frames 0 to 59."""

COPIED = {
    "edit_head.mp4": ("h264.mp4", "-ss 0.5", "-c copy"),
    "edit_head.mov": ("h264.mov", "-ss 0.5", "-c copy"),
    "edit_head_open.mp4": ("h264_open.mp4", "-ss 0.7", "-c copy"),
    "edit_head_hevc.mp4": ("hevc.mp4", "-ss 0.7", "-c copy"),
    "edit_middle.mp4": ("h264.mp4", "-ss 0.5 -t 1", "-c copy"),
    "edit_tail.mp4": ("h264.mp4", "-sseof -0.2", "-c copy"),
    "edit_tail_hevc.mp4": ("hevc.mp4", "-sseof -0.2", "-c copy"),
    "trimmed.mkv": ("h264.mp4", "-ss 0.5", "-c copy"),
    "trimmed_open.mkv": ("h264_open.mp4", "-ss 0.7", "-c copy"),
    "no_edit_list.mp4": ("h264.mp4", "", "-c copy -use_editlist 0"),
    "negative_offsets.mp4": ("h264.mp4", "", "-c copy -movflags negative_cts_offsets"),
    "turned_90.mp4": ("h264.mp4", "", "-c copy -metadata:s:v:0 rotate=90"),
    "turned_180.mp4": ("h264.mp4", "", "-c copy -metadata:s:v:0 rotate=180"),
    "turned_270.mov": ("h264.mov", "", "-c copy -metadata:s:v:0 rotate=270"),
    "turned_90_hevc.mp4": ("hevc.mp4", "", "-c copy -metadata:s:v:0 rotate=90"),
    "turned_45.mp4": ("h264.mp4", "", "-c copy -metadata:s:v:0 rotate=45"),
    "turned_sei.ts": (
        "h264.mp4",
        "",
        "-c copy -bsf:v h264_metadata=display_orientation=insert:rotate=90",
    ),
    "starts_late.mp4": ("h264.mp4", "-itsoffset 1.5", "-c copy"),
    "starts_late.mkv": ("h264.mp4", "-itsoffset 1.5", "-c copy"),
    "starts_late.ts": ("h264.mp4", "", "-c copy -output_ts_offset 100"),
    "starts_early.mp4": (
        "h264.mp4",
        "",
        "-c copy -output_ts_offset -0.5 -avoid_negative_ts disabled",
    ),
    "starts_early.mkv": (
        "h264.mp4",
        "",
        "-c copy -output_ts_offset -0.5 -avoid_negative_ts disabled",
    ),
    "playlist.m3u8": ("h264.mp4", "", "-c copy -f hls -hls_time 0.5"),
}
"""Name -> source, ffmpeg's options before it, and after it."""

WITH_SOUND = {
    "sound_longer.mp4": ("h264.mp4", "", "-c:v copy -c:a aac"),
    "sound_longer.mkv": ("h264.mp4", "", "-c:v copy -c:a aac"),
    "sound_longer.ts": ("h264.mp4", "", "-c:v copy -c:a aac"),
    "sound_longer.flv": ("h264.mp4", "", "-c:v copy -c:a aac"),
    "sound_longer.avi": ("mpeg4.avi", "", "-c:v copy -c:a mp2"),
    "sound_first.mp4": ("h264.mp4", "-itsoffset 1.5", "-c:v copy -c:a aac"),
    "sound_first.mkv": ("h264.mp4", "-itsoffset 1.5", "-c:v copy -c:a aac"),
    "sound_first.ts": ("h264.mp4", "-itsoffset 1.5", "-c:v copy -c:a aac"),
    "sound_first.mpg": ("mpeg2.mp4", "-itsoffset 1.5", "-c:v copy -c:a mp2"),
}
"""Five seconds of a tone beside the video; as :data:`COPIED`."""

TOGETHER = {
    "two_large_second.mp4": ("h264.mp4", "large.mp4", ""),
    "two_large_first.mkv": ("large.mp4", "h264.mp4", ""),
    "two_default.mkv": ("small.mp4", "h264.mp4", _SECOND),
    "two_default_small.mkv": (
        "large.mp4",
        "small.mp4",
        "-disposition:v:0 0 -disposition:v:1 default",
    ),
    "two_equal.mkv": ("h264.mp4", "h264_open.mp4", ""),
    "two.ts": ("small.mp4", "h264.mp4", ""),
    "cover_first.mp4": ("cover.png", "h264.mp4", "-disposition:v:0 attached_pic"),
    "cover_last.mp4": ("h264.mp4", "cover.png", "-disposition:v:1 attached_pic"),
}
"""Two video streams in one file: their sources, and options."""

OTHERS = {
    "large.mp4": f"-f lavfi -i testsrc2=s=256x192:r=30 -frames:v 40 {_GOP}",
    "small.mp4": f"-f lavfi -i testsrc2=s=64x48:r=30 -frames:v 40 {_GOP}",
    "cover.png": "-f lavfi -i testsrc2=s=64x48 -frames:v 1",
}

FEW = {
    "one.mp4": (1, _GOP),
    "one.webm": (1, "-c:v libvpx"),
    "one.avi": (1, "-c:v mpeg4"),
    "one.gif": (1, ""),
    "one_hevc.mkv": (1, "-c:v libx265 -x265-params log-level=none"),
    "two_frames.mpg": (2, _MPEG2),
}
"""Name -> number of frames, options."""

JOINED = {
    "clock_restarts.mpg": ("mpeg2.mpg", "mpeg2.mpg"),
    "clock_restarts.ts": ("h264.ts", "h264.ts"),
    "clock_jumps.ts": ("h264.ts", "starts_late.ts"),
}
"""Bytes of one file after those of another."""

CUT = (
    *("h264.mp4", "h264_faststart.mp4", "h264_fragmented.mp4", "h264.mkv", "h264_live.mkv"),
    *("h264.ts", "h264.flv", "h264.avi", "vp8.webm", "vp9.webm", "vp9_live.webm", "av1.mkv"),
    *("hevc.mkv", "mpeg2.mpg", "mpeg4.avi", "wmv2.wmv", "theora.ogv", "prores.mov", "mjpeg.avi"),
    *("raw.avi", "flv1.flv"),
)
"""Each also comes as ``cut_NAME``: the first two thirds of its bytes."""

DAMAGED = (
    *("h264.mp4", "h264.mkv", "h264.flv", "h264_refresh.mp4", "hevc.mp4", "hevc.mkv", "vp9.webm"),
    *("av1.mp4", "mpeg4.avi", "mpeg4.mp4", "wmv2.wmv", "theora.ogv", "prores.mov", "mjpeg.avi"),
    *("flv1.flv", "animated.gif"),
)
"""Each also comes as ``zeroed_NAME``, ``noise_NAME``, ``late_NAME``: packet 29, or 58, is lost."""

NAMES = (
    *ENCODED,
    *COPIED,
    *WITH_SOUND,
    *TOGETHER,
    *FEW,
    *JOINED,
    *(f"cut_{name}" for name in CUT),
    *(f"{how}_{name}" for name in DAMAGED for how in ("zeroed", "noise", "late")),
)


class Shelf:
    """A folder of the files above.

    Parameters
    ----------
    folder
        Where they are made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def missing_encoder(self, name: str) -> str:
        """An encoder that a file needs and this ffmpeg lacks; empty if it has all."""
        options = shlex.split(ENCODED.get(self.source(name), "")) or ["-c:v", "libx264"]
        used = [options[i + 1] for i, word in enumerate(options) if word == "-c:v"]
        return next((name for name in used if name not in encoders()), "")

    def source(self, name: str) -> str:
        """The encoded file that a file is made from."""
        if name in ENCODED:
            return name
        for table in (COPIED, WITH_SOUND, TOGETHER, JOINED):
            if name in table:
                return self.source(table[name][0])
        return (
            name.partition("_")[2]
            if name.startswith(("cut_", "zeroed_", "noise_", "late_"))
            else ""
        )

    def path(self, name: str) -> Path:
        """Return the file, made if it is not there yet."""
        path = self._folder / name
        if not path.exists():
            self._make(name, path)
        return path

    def _make(self, name: str, path: Path) -> None:
        tone = ["-f", "lavfi", "-i", "sine=duration=5", "-map", "0:v", "-map", "1:a"]
        if name in ENCODED:
            encode(path, ENCODED[name])
        elif name in FEW:
            encode(path, FEW[name][1], range(FEW[name][0]))
        elif name in OTHERS:
            ffmpeg(*shlex.split(OTHERS[name]), path)
        elif name in COPIED or name in WITH_SOUND:
            source, before, after = (COPIED | WITH_SOUND)[name]
            middle = tone if name in WITH_SOUND else []
            origin = self.path(source)
            ffmpeg(*before.split(), "-i", origin, *middle, *after.split(), path)
        elif name in TOGETHER:
            one, other, options = TOGETHER[name]
            inputs = "-i", self.path(one), "-i", self.path(other), "-map", "0:v", "-map", "1:v"
            ffmpeg(*inputs, "-c", "copy", *options.split(), path)
        elif name in JOINED:
            path.write_bytes(b"".join(self.path(part).read_bytes() for part in JOINED[name]))
        else:
            how, _, source = name.partition("_")
            data = self.path(source).read_bytes()
            if how == "cut":
                path.write_bytes(data[: len(data) * 2 // 3])
            else:
                packet = FRAMES - 2 if how == "late" else FRAMES // 2 - 1
                kind = "noise" if how == "noise" else "zeroed"
                path.write_bytes(damage(data, self.path(source), packet, kind))
