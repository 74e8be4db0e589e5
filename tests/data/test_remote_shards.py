"""Shards behind an fsspec address are read as those of a folder are, and refused alike."""

from collections.abc import Iterator

import fsspec
import numpy as np
import pytest
from data_samples import flipped

from demiurgic_jax.data.loader import Loader
from demiurgic_jax.data.shards import MANIFEST, ShardSet
from demiurgic_jax.errors import UserError


@pytest.fixture
def address(shard_set) -> Iterator[str]:
    """A copy of the shard set in fsspec's store in memory."""
    store = fsspec.filesystem("memory")
    for path in shard_set.folder.iterdir():
        store.pipe_file(f"/bucket/shards/{path.name}", path.read_bytes())
    yield "memory://bucket/shards"
    store.rm("/bucket", recursive=True)


def damage(address: str, name: str, bit: int) -> None:
    store, path = fsspec.url_to_fs(f"{address}/{name}")
    store.pipe_file(path, flipped(store.cat_file(path), bit))


def test_a_set_behind_an_address_is_the_set_in_the_folder(shard_set, address):
    remote = ShardSet(address)
    assert (remote.fingerprint, len(remote)) == (shard_set.fingerprint, len(shard_set))
    remote.verify()
    files = ShardSet(f"file://{shard_set.folder}")
    for each in (remote, files):
        loaders = [Loader(source, batch_size=4, row_length=48, seed=0, soft_targets=4) for source in (each, shard_set)]
        with loaders[0].batches(5) as batches:
            for step, batch in (next(batches) for _ in range(3)):
                for got, expected in zip(batch, loaders[1].batch(step), strict=True):
                    np.testing.assert_array_equal(got, expected)


def test_a_flipped_bit_is_refused_by_address_and_record(shard_set, address):
    name = shard_set.manifest["shards"][1]["file"]
    damage(address, name, 4003)
    with pytest.raises(
        UserError, match=rf"^{address}/{name}: record \d+ fails the checksum of its data; delete {address}"
    ):
        ShardSet(address).verify()
    damage(address, MANIFEST, 333)
    with pytest.raises(UserError, match=rf"^{address}/{MANIFEST} is damaged"):
        ShardSet(address)


def test_a_file_that_is_missing_or_cut_short_is_refused_by_address(shard_set, address):
    store, path = fsspec.url_to_fs(f"{address}/{shard_set.manifest['shards'][2]['file']}")
    opened = ShardSet(address)
    whole = store.cat_file(path)
    store.pipe_file(path, whole[:-5])
    with pytest.raises(UserError, match=rf"{address}/.*00002.* is cut short at record 14 "):
        ShardSet(address)
    store.rm(path)
    with pytest.raises(UserError, match=rf"{address}/.*00002-of-00004 is missing"):
        ShardSet(address)
    with pytest.raises(UserError, match=rf"{address}/.*00002-of-00004: record 3 "):
        opened.read(33)


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("memory://nothing/here", "shard folder memory://nothing/here is empty or missing"),
        ("gopher://host/shards", "nothing reads gopher:// addresses; give a local folder, gs:// or s3://"),
    ],
)
def test_an_address_without_shards_is_refused(address, complaint):
    with pytest.raises(UserError, match=complaint):
        ShardSet(address)


def test_a_store_whose_client_is_not_installed_names_the_extra():
    fsspec.register_implementation("absent", "no_such_client.FileSystem", clobber=True, errtxt="Install no_such_client")
    with pytest.raises(UserError, match=r"absent://shards cannot be read \(Install no.* 'demiurgic_jax\[cloud\]'"):
        ShardSet("absent://shards")


def test_a_store_that_refuses_is_named(address, monkeypatch):
    class RefusedError(Exception):
        pass

    def refuse(*args, **kwargs):
        raise RefusedError("no credentials")

    monkeypatch.setattr(fsspec.filesystem("memory"), "ls", refuse)
    with pytest.raises(
        UserError, match=rf"{address} cannot be read \({address} does not answer \(RefusedError: no cred"
    ):
        ShardSet(address)


def test_a_set_in_s3_is_read_through_its_own_client(shard_set, monkeypatch):
    pytest.importorskip("s3fs", reason="s3fs is not installed (extra [cloud])")
    moto = pytest.importorskip("moto.server", reason="there is no S3 to ask: pip install 'moto[server,s3]'")
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    try:
        store = fsspec.filesystem("s3")
        store.mkdir("bucket")
        store.put(str(shard_set.folder), "bucket/shards", recursive=True)
        remote = ShardSet("s3://bucket/shards")
        assert remote.fingerprint == shard_set.fingerprint
        remote.verify()
        here, there = (Loader(each, batch_size=4, row_length=48, seed=0) for each in (shard_set, remote))
        for workers in (0, 1):
            with there.batches(2, workers=workers) as batches:
                np.testing.assert_array_equal(next(batches)[1].tokens, here.batch(2).tokens)
        with pytest.raises(UserError, match="shard folder s3://bucket/nothing is empty or missing"):
            ShardSet("s3://bucket/nothing")
        with pytest.raises(UserError, match="s3://no-such-bucket"):
            ShardSet("s3://no-such-bucket/shards")
    finally:
        server.stop()
