from pathlib import Path

from outsize.probe.mounts import disk_name


def _proc(folder: Path, *mounts: str) -> Path:
    (folder / "self").mkdir(parents=True)
    (folder / "self" / "mountinfo").write_text("\n".join(mounts) + "\n")
    return folder


def test_the_nearest_mount_above_the_folder_names_the_disk(tmp_path: Path) -> None:
    disk = tmp_path / "my disk"
    folder = disk / "runs"
    folder.mkdir(parents=True)
    escaped = str(disk).replace(" ", r"\040")
    proc = _proc(
        tmp_path / "proc",
        "1 0 8:1 / / rw - ext4 /dev/sda rw",
        rf"2 1 8:2 / {escaped} rw shared:1 - xfs /dev/my\040disk rw",
        f"3 1 8:3 / {escaped}-other rw - tmpfs none rw",
    )
    assert disk_name(folder, proc) == "xfs on /dev/my disk"
    assert disk_name(tmp_path, proc) == "ext4 on /dev/sda"


def test_without_the_kernels_list_the_device_is_a_number(tmp_path: Path) -> None:
    assert disk_name(tmp_path, tmp_path / "none") == f"device {tmp_path.stat().st_dev}"


def test_two_folders_of_one_disk_have_one_name(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert disk_name(tmp_path) == disk_name(tmp_path / "a")
