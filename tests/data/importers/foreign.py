"""Small data sets of foreign formats, written from the formats' descriptions, and the arrays that are in them."""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SIZE = 28
LENGTHS = (7, 12, 3, 9, 5, 8, 6)
FPS = 10


@dataclass
class Rows:
    """Rows of all episodes, one after another."""

    lengths: np.ndarray
    pixels: np.ndarray
    action: np.ndarray
    state: np.ndarray

    @property
    def offsets(self) -> np.ndarray:
        return np.cumsum(self.lengths) - self.lengths

    @property
    def episode(self) -> np.ndarray:
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def frame(self) -> np.ndarray:
        return np.arange(len(self.pixels)) - np.repeat(self.offsets, self.lengths)


def make_rows(lengths=LENGTHS, size=SIZE, state_dim=2, seed=0, width=None) -> Rows:
    rng = np.random.default_rng(seed)
    count = sum(lengths)
    # Blocks of 4 x 4 pixels: noise cannot be compressed, and HDF5 would store it without its filter.
    blocks = rng.integers(0, 256, (count, size // 4, (width or size) // 4, 3), dtype=np.uint8)
    return Rows(
        np.array(lengths),
        blocks.repeat(4, 1).repeat(4, 2),
        rng.uniform(-1, 1, (count, 2)).astype(np.float32),
        rng.uniform(20, 200, (count, state_dim)),
    )


def write_hdf5(path: Path, rows: Rows, episode_column="ep_idx", last_action=False, blosc=True, **columns) -> Path:
    """The released layout: flat columns, Blosc-compressed chunks of 100 frames, NaN for an episode's last action."""
    action = rows.action.copy()
    if not last_action:
        action[rows.offsets + rows.lengths - 1] = np.nan
    packing = hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE) if blosc else {}
    with h5py.File(path, "w") as file:
        chunk = (min(100, len(rows.pixels)), *rows.pixels.shape[1:])
        file.create_dataset("pixels", data=rows.pixels, chunks=chunk, **packing)
        everything = {
            "action": action,
            episode_column: rows.episode.astype(np.int32),
            "step_idx": rows.frame.astype(np.int32),
            "ep_len": rows.lengths.astype(np.int32),
            "ep_offset": rows.offsets.astype(np.int64),
            **columns,
        }
        for name, values in everything.items():
            if values is not None:
                file.create_dataset(name, data=values)
    return path


def png(frame: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG")
    return file.getvalue()


def write_video(path: Path, frames: np.ndarray, fps: int = FPS) -> Path:
    """Lossless RGB H.264 with a key frame every fifth frame."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=fps, options={"qp": "0", "g": "5"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "rgb24"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_lerobot(
    path: Path, rows: Rows, version="v2.1", video=False, fps=FPS, packs=((0, 1, 2), (3, 4, 5, 6))
) -> Path:
    """LeRobot's layout, version 2.1 or 3.0, with one camera."""
    camera, packed = "observation.images.top", version == "v3.0"
    success = rows.frame == np.repeat(rows.lengths, rows.lengths) - 1
    table = pa.table(
        {
            "observation.state": pa.array(rows.state.astype(np.float32).tolist(), pa.list_(pa.float32())),
            "action": pa.array(rows.action.tolist(), pa.list_(pa.float32(), 2)),
            "next.success": success,
            "timestamp": (rows.frame / fps).astype(np.float32),
            "frame_index": rows.frame,
            "episode_index": rows.episode,
            "index": np.arange(len(rows.frame)),
        }
    )
    if not video:
        images = [{"bytes": png(frame), "path": None} for frame in rows.pixels]
        table = table.append_column(camera, pa.array(images, pa.struct({"bytes": pa.binary(), "path": pa.string()})))
    if not packed:
        packs = [(number,) for number in range(len(rows.lengths))]
    meta = []
    for number, pack in enumerate(packs):
        start = int(rows.offsets[pack[0]])
        part = slice(start, int(rows.offsets[pack[-1]] + rows.lengths[pack[-1]]))
        name = f"chunk-000/file-{number:03d}" if packed else f"chunk-000/episode_{number:06d}"
        file = path / "data" / f"{name}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.slice(part.start, part.stop - part.start), file, row_group_size=10)
        if video:
            at = f"videos/{camera}/{name}.mp4" if packed else f"videos/chunk-000/{camera}/episode_{number:06d}.mp4"
            write_video(path / at, rows.pixels[part], fps)
        for episode in pack:
            first = (rows.offsets[episode] - start) / fps
            row = {"episode_index": episode, "tasks": ["go"], "length": int(rows.lengths[episode])}
            if packed:
                row |= {"data/chunk_index": 0, "data/file_index": number, "stats/action/mean": [0.0, 0.0]}
                row |= {f"videos/{camera}/chunk_index": 0, f"videos/{camera}/file_index": number}
                row |= {f"videos/{camera}/from_timestamp": first}
                row |= {f"videos/{camera}/to_timestamp": first + rows.lengths[episode] / fps}
            meta.append(row)
    numbers = {"dtype": "float32", "names": None}
    info = {
        "codebase_version": version,
        "total_episodes": len(rows.lengths),
        "total_frames": len(rows.pixels),
        "fps": fps,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
        if packed
        else "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
        if packed
        else "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": {
            camera: {"dtype": "video" if video else "image", "shape": [*rows.pixels.shape[1:]]},
            "observation.state": {**numbers, "shape": [rows.state.shape[1]]},
            "action": {**numbers, "shape": [2]},
            "next.success": {"dtype": "bool", "shape": [1]},
        },
    }
    if not packed:
        info["chunks_size"] = 1000
    (path / "meta").mkdir(exist_ok=True)
    (path / "meta/info.json").write_text(json.dumps(info))
    if packed:
        (path / "meta/episodes/chunk-000").mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(meta), path / "meta/episodes/chunk-000/file-000.parquet")
    else:
        (path / "meta/episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in meta))
    return path


def robot_demos(lengths=(6, 9, 7, 8), size=SIZE, width=None, seed=0) -> list[dict[str, np.ndarray]]:
    """What a robot of seven joints with two cameras does: what was true before each action, and one picture more."""
    rng = np.random.default_rng(seed)
    found = []
    for length in lengths:
        joints = rng.uniform(-1, 1, 7) + 0.05 * np.arange(length + 1)[:, None] * rng.uniform(0.5, 1, 7)
        blocks = rng.integers(0, 256, (2, length + 1, size // 4, (width or size) // 4, 3), dtype=np.uint8)
        front, wrist = blocks.repeat(4, 2).repeat(4, 3)
        found.append(
            {
                "actions": rng.uniform(-1, 1, (length, 7)),
                # A flattened state of robosuite: time, positions with the robot's joints first, velocities.
                "states": np.c_[0.05 * np.arange(length + 1), joints, rng.normal(size=(length + 1, 12))],
                "joints": joints,
                "hand": rng.normal(size=(length + 1, 3)),
                "front": front,
                "wrist": wrist,
                "reward": (np.arange(length) == length - 1).astype(np.float64),
            }
        )
    return found


def write_robomimic(path: Path, demos: list[dict], masks=None, control_freq=20, cameras=("front",), **more) -> Path:
    """robomimic's layout: what was seen before the action in `obs`, what was seen after it in `next_obs`."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        env = {"env_name": "Lift", "env_version": "1.4.1", "type": 1, "env_kwargs": {"control_freq": control_freq}}
        data.attrs["env_args"] = json.dumps(env, indent=4)
        data.attrs["total"] = sum(len(demo["actions"]) for demo in demos)
        for number, demo in enumerate(demos):
            group = data.create_group(f"demo_{number}")
            group.attrs["num_samples"] = len(demo["actions"])
            group.attrs["model_file"] = "<mujoco/>"
            group["actions"], group["rewards"] = demo["actions"], demo["reward"]
            group["dones"], group["states"] = demo["reward"].astype(np.int64), demo["states"][:-1]
            seen = {"robot0_joint_pos": demo["joints"], "robot0_eef_pos": demo["hand"]}
            seen |= {"agentview_image": demo["front"]} if "front" in cameras else {}
            seen |= {"robot0_eye_in_hand_image": demo["wrist"]} if "wrist" in cameras else {}
            for name, values in seen.items():
                group[f"obs/{name}"], group[f"next_obs/{name}"] = values[:-1], values[1:]
            for name, values in more.items():
                group[name] = values[number]
        for name, members in (masks or {}).items():
            file[f"mask/{name}"] = np.array([f"demo_{one}" for one in members], dtype="S")
    return path


def write_libero(path: Path, demos: list[dict]) -> Path:
    """LIBERO's layout: an action beside the state before it and what was seen after it, pictures bottom row first."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"type": 1, "env_kwargs": {"control_freq": 20}})
        data.attrs["macros_image_convention"] = "opengl"
        data.attrs["problem_info"] = json.dumps({"language_instruction": "open the drawer"})
        for number, demo in enumerate(demos):
            group = data.create_group(f"demo_{number}")
            group.attrs["num_samples"] = str(len(demo["actions"]))
            group.attrs["init_state"] = demo["states"][0]
            group["actions"], group["states"] = demo["actions"], demo["states"][:-1]
            group["rewards"] = group["dones"] = demo["reward"].astype(np.uint8)
            group["obs/joint_states"], group["obs/ee_pos"] = demo["joints"][1:], demo["hand"][1:]
            group["obs/agentview_rgb"] = demo["front"][1:, ::-1]
            group["obs/eye_in_hand_rgb"] = demo["wrist"][1:, ::-1]
    return path


def write_mp4csv(path: Path, rows: Rows, single=False) -> Path:
    """A video per episode, and a CSV file beside each or one for all."""
    path.mkdir(parents=True, exist_ok=True)
    header = "action_0,action_1,state_0,state_1"
    everything = []
    for number, (start, length) in enumerate(zip(rows.offsets, rows.lengths, strict=True)):
        part = slice(start, start + length)
        write_video(path / f"walk_{number:03d}.mp4", rows.pixels[part])
        lines = [
            ",".join(repr(float(v)) for v in (*a, *s)) for a, s in zip(rows.action[part], rows.state[part], strict=True)
        ]
        lines[-1] = ",," + lines[-1].split(",", 2)[2]
        everything += [f"walk_{number:03d},{line}" for line in lines]
        if not single:
            (path / f"walk_{number:03d}.csv").write_text("\n".join([header, *lines]) + "\n")
    if single:
        (path / "rows.csv").write_text("\n".join([f"episode,{header}", *everything]) + "\n")
    return path
