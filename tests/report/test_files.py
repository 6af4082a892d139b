"""Files that are written for somebody: whole or not at all, and never in the place of what is not ours."""

import errno
import os
import stat
import tempfile
import threading
from pathlib import Path

import pytest

from reconciler.report import files
from tests.devices import FULL, NULL, device

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has two users")
FORMER = "the former one, which is longer"
NOBODY = 65534


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text(FORMER)
    return path


def write(path: Path, text: str = "new", *, ours: bool = False) -> None:
    files.write(path, text, files.OWNER, ours=ours)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_is_for_its_owner_only(tmp_path: Path) -> None:
    former = os.umask(0)
    try:
        write(tmp_path / "new")
    finally:
        os.umask(former)
    assert (mode(tmp_path / "new"), (tmp_path / "new").read_text()) == (0o600, "new")


def test_a_file_is_replaced_in_one_step_and_keeps_its_mode(report: Path) -> None:
    report.chmod(0o664)
    with report.open() as reader:
        write(report)
        assert reader.read() == FORMER
    assert (report.read_text(), mode(report)) == ("new", 0o664)
    assert list(report.parent.iterdir()) == [report]


def test_a_link_stays_and_its_target_is_replaced(report: Path) -> None:
    link = report.parent / "folder" / "link"
    link.parent.mkdir()
    link.symlink_to("../report.html")
    write(link)
    assert (link.is_symlink(), report.is_symlink(), report.read_text()) == (True, False, "new")
    assert list(link.parent.iterdir()) == [link]


def test_the_target_of_a_dangling_link_is_made(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("between")
    (tmp_path / "between").symlink_to("target")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "between").is_symlink()
    assert ((tmp_path / "target").read_text(), mode(tmp_path / "target")) == ("new", 0o600)


def test_links_in_a_circle_a_directory_and_no_directory_are_errors(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "to-folder").symlink_to(".")
    (tmp_path / "file").touch()
    for path, number in (
        (tmp_path / "a", errno.ELOOP),
        (tmp_path, errno.EISDIR),
        (tmp_path / "to-folder", errno.EISDIR),
        (tmp_path / "no" / "where", errno.ENOENT),
        (tmp_path / "file" / "x", errno.ENOTDIR),
        (tmp_path / ("x" * 256), errno.ENAMETOOLONG),
        (Path("/dev/fd/999"), errno.EBADF),
    ):
        with pytest.raises(OSError) as raised:  # noqa: PT011 - its number is compared
            write(path)
        assert raised.value.errno == number, path
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "file", "to-folder"]


@pytest.mark.parametrize("letter", ["x", "日"])
def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path: Path, letter: str) -> None:
    path = tmp_path / (letter * (255 // len(letter.encode())))
    write(path)
    write(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_device_is_written_to(tmp_path: Path) -> None:
    null, full = device(tmp_path, NULL), device(tmp_path, FULL)
    (tmp_path / "link").symlink_to(null)
    write(null)
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    with pytest.raises(OSError, match="No space left"):
        write(full)
    assert (null.is_char_device(), full.is_char_device()) == (True, True)


def test_a_named_pipe_is_written_to_once_it_has_a_reader(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    write(pipe, "x" * 200_000)
    reader.join()
    assert found == ["x" * 200_000]
    assert pipe.is_fifo()


def test_the_service_waits_for_no_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="No such device or address"):
        write(tmp_path / "pipe", ours=True)


def test_a_descriptor_goes_on_where_it_is(report: Path) -> None:
    """A path of the kernel's own for an open file: it must be neither replaced nor cut."""
    handle = os.open(report, os.O_WRONLY)
    os.lseek(handle, 4, os.SEEK_SET)
    (report.parent / "link").symlink_to(f"/dev/fd/{handle}")
    for path in (f"/dev/fd/{handle}", f"/proc/self/fd/{handle}", f"/proc/{os.getpid()}/fd/{handle}"):
        assert files.descriptor(Path(path)) == handle
        write(Path(path), "X")
    write(report.parent / "link", "Y")
    os.close(handle)
    assert report.read_text() == "the XXXYer one, which is longer"


def test_a_descriptor_of_a_deleted_file(report: Path) -> None:
    with report.open("r+") as file:
        report.unlink()
        write(Path(f"/dev/fd/{file.fileno()}"), "The")
        file.seek(0)
        assert file.read() == "The" + FORMER[3:]
    assert list(report.parent.iterdir()) == []
    assert files.descriptor(report) is None
    assert files.descriptor(Path("/dev/stdout")) == 1
    assert files.descriptor(Path("/dev/stderr")) == 2


def test_all_names_of_a_file_see_what_is_written(report: Path) -> None:
    other = report.parent / "other"
    other.hardlink_to(report)
    write(report)
    assert (report.read_text(), other.read_text()) == ("new", "new")


def test_a_file_that_can_not_be_replaced_is_written_in_place(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a directory that may not be written, or where the file alone is mounted into a container."""

    def busy(*_: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(os, "replace", busy)
    number = report.stat().st_ino
    write(report)
    assert (report.read_text(), report.stat().st_ino) == ("new", number)
    assert list(report.parent.iterdir()) == [report]


def test_a_full_disk_leaves_the_former_file_and_nothing_else(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(report)
    assert report.read_text() == FORMER
    assert list(report.parent.iterdir()) == [report]


def test_characters_that_are_none_are_escaped(tmp_path: Path) -> None:
    write(tmp_path / "new", "a\ud800b")
    assert (tmp_path / "new").read_text() == r"a\ud800b"


@root
def test_the_owner_of_a_file_stays(report: Path) -> None:
    os.chown(report, NOBODY, NOBODY)
    write(report)
    assert (report.read_text(), report.stat().st_uid, report.stat().st_gid) == ("new", NOBODY, NOBODY)


@root
@pytest.mark.parametrize(
    ("folder", "file", "ours", "result"),
    [
        (0o777, 0o666, False, "in place"),  # a new file would be ours
        (0o755, 0o666, False, "in place"),  # there can be no new file
        (0o777, 0o644, False, "refused"),
        (0o755, 0o644, False, "refused"),
        (0o777, 0o644, True, "replaced"),
        (0o755, 0o666, True, "in place"),
        (0o755, 0o644, True, "refused"),
    ],
)
def test_what_belongs_to_somebody_else(folder: int, file: int, ours: bool, result: str) -> None:
    with tempfile.TemporaryDirectory() as made:  # not below what only root may enter
        directory = Path(made)
        directory.chmod(folder)
        path = directory / "report"
        path.write_text(FORMER)
        path.chmod(file)
        number = path.stat().st_ino
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
        try:
            write(path, ours=ours)
            found = "in place" if path.stat().st_ino == number else "replaced"
            assert path.read_text() == "new"
        except PermissionError:
            found = "refused"
        finally:
            os.seteuid(0)
            os.setegid(0)
        assert found == result
        assert list(directory.iterdir()) == [path]
        assert (path.stat().st_uid, mode(path)) == (NOBODY if result == "replaced" else 0, file)
