"""What a user gets wrong is answered with one sentence that names it and the mend, exit status 2, nothing lost."""

import asyncio
import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import micro

from experiments.run import main

SEEDS = ["--config.seeds.max_files=12", "--config.teach.tasks.complete=2", "--config.teacher.timeout_seconds=5"]


def refused(capsys, *argv: str) -> str:
    """Runs the main job; returns the one sentence it refuses with."""
    capsys.readouterr()
    assert main(["--config=quickstart", *argv]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("[")]
    assert len(errors) == 1, errors
    assert errors[0].startswith("error: ")
    return errors[0]


@contextlib.contextmanager
def answering(payload: bytes) -> Iterator[str]:
    """A server that sends `payload` to whoever connects, and closes."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(payload)
        await writer.drain()
        writer.close()

    started: list[tuple[asyncio.AbstractEventLoop, int]] = []
    ready = threading.Event()

    async def serve() -> None:
        server = await asyncio.start_server(reply, "127.0.0.1", 0)
        started.append((asyncio.get_running_loop(), server.sockets[0].getsockname()[1]))
        ready.set()
        with contextlib.suppress(asyncio.CancelledError):
            await server.serve_forever()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    ready.wait()
    loop, port = started[0]
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        loop.call_soon_threadsafe(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])
        thread.join()


def test_missing_gguf(capsys, tmp_path):
    said = refused(capsys, f"--workdir={tmp_path}/run", "--config.teacher.path=/no/such/model.gguf", *SEEDS)
    assert "/no/such/model.gguf does not exist" in said


def test_corrupt_gguf(capsys, tmp_path, smollm2_gguf):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(smollm2_gguf.read_bytes()[:3_000_000])
    said = refused(capsys, f"--workdir={tmp_path}/run", f"--config.teacher.path={broken}", *SEEDS)
    assert str(broken) in said
    assert "fetch it again" in said


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("phases=({'name': 'a', 'stesp': 3},)", "config.phases[0] has the unknown field 'stesp'"),
        ("train.optimizer.warmup_steps=1000", "optimizer.warmup_steps=1000 leaves nothing of train.steps"),
        ("init.kind=guess", "config.init.kind='guess' is unknown"),
        ("train.mixture.sets=('elsewhere',)", "shard folder elsewhere is empty or missing"),
        ("shards.sources=({'name': 'more', 'path': '/nowhere'},)", "source more: no file is at /nowhere"),
    ],
)
def test_what_later_stages_would_refuse_is_refused_before_the_teacher_is_asked(capsys, tmp_path, override, said):
    assert said in refused(capsys, f"--workdir={tmp_path}/run", *SEEDS, f"--config.{override}")
    assert not (tmp_path / "run" / "seeds").exists()


def test_teacher_that_refuses_connections(capsys, tmp_path):
    # Port 9 (discard) has no server on a machine of this century.
    said = refused(capsys, f"--workdir={tmp_path}/run", "--config.teacher.url=http://127.0.0.1:9/v1", *SEEDS)
    assert "http://127.0.0.1:9/v1" in said
    assert "config.teacher.url" in said


def test_teacher_that_answers_html(capsys, tmp_path):
    page = b"<html><body>Please log in</body></html>"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(page)
    with answering(head + page) as url:
        said = refused(capsys, f"--workdir={tmp_path}/run", f"--config.teacher.url={url}", *SEEDS)
    assert url in said
    assert "config.teacher.url" in said


def test_teacher_that_stops_in_the_middle(capsys, tmp_path):
    half = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n{"data": [{"id"'
    with answering(half) as url:
        said = refused(capsys, f"--workdir={tmp_path}/run", f"--config.teacher.url={url}", *SEEDS)
    assert url in said
    assert "stops in the middle" in said


def test_workdir_of_another_config(capsys, tmp_path):
    assert main(["--config=quickstart", f"--workdir={tmp_path}/run", "--stages=seeds", *SEEDS]) == 0
    capsys.readouterr()
    assert main(["--config=quickstart_scratch", f"--workdir={tmp_path}/run", "--stages=seeds"]) == 2
    assert "was written by --config=quickstart, not quickstart_scratch" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="a disk small enough to fill needs a mount, which needs root")
def test_full_disk(capsys, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size=64k tmpfs {disk} 2>/dev/null"):
        pytest.skip("mounting is not allowed here")
    try:
        said = refused(capsys, f"--workdir={disk}/run", "--stages=seeds", *SEEDS)
        assert str(disk) in said
        assert "is full: free some space" in said
    finally:
        os.system(f"umount {disk}")


@pytest.mark.skipif(os.geteuid() != 0, reason="a disk that takes nothing from root needs a mount")
def test_read_only_disk(capsys, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o ro,size=64k tmpfs {disk} 2>/dev/null"):
        pytest.skip("mounting is not allowed here")
    try:
        said = refused(capsys, f"--workdir={disk}/run", "--stages=seeds", *SEEDS)
        assert f"{disk}/run cannot be written (Read-only file system): give a --workdir that can" in said
    finally:
        os.system(f"umount {disk}")


@pytest.fixture(scope="module")
def finished_shards(smollm2_gguf, tmp_path_factory) -> Path:
    """A micro run up to its shards."""
    workdir = tmp_path_factory.mktemp("micro") / "run"
    micro.run(smollm2_gguf, workdir, "--stages=seeds,teach,verify,tokenizer,shards")
    return workdir


@pytest.mark.slow
def test_flipped_bit_in_a_shard_is_named_before_training(smollm2_gguf, finished_shards, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished_shards, workdir)
    shard = next((workdir / "shards/train").glob("*.tfrecord-00000-of-*"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 4
    shard.write_bytes(content)
    said = micro.run(smollm2_gguf, workdir, "--stages=train", status=2)
    assert shard.name in said
    assert "Traceback" not in said
    assert not list((workdir / "train").glob("checkpoints/*"))


@pytest.mark.slow
def test_tokenizer_that_does_not_match_the_shards(smollm2_gguf, finished_shards, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished_shards, workdir)
    file = workdir / "tokenizer/files/tokenizer_config.json"
    file.write_text(file.read_text().replace("<|im_end|>", "<|endoftext|>"))
    said = micro.run(smollm2_gguf, workdir, "--stages=train", status=2)
    assert "use that tokenizer or make the shards again" in said
    assert "Traceback" not in said
