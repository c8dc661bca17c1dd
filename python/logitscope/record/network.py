"""Whether a file lies on a network disk, where SQLite's locks and shared memory cannot be trusted."""

from __future__ import annotations

import re
from pathlib import Path

_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|lustre|gpfs|beegfs(_nodev)?|ceph|afs|orangefs|pvfs2|glusterfs|fuse\.(sshfs|glusterfs|"
    r"s3fs|gcsfuse|ceph|juicefs|beegfs)"
)


def is_on_network(path: Path, mounts: str | None = None) -> bool:
    r"""Whether the file system that holds ``path`` is one of a network; False where the system does not tell.

    Examples
    --------
    >>> mounts = "server:/home /home nfs4 rw 0 0\n/dev/sda / ext4 rw 0 0\n"
    >>> is_on_network(Path("/home/me/run.scope"), mounts), is_on_network(Path("/tmp/run.scope"), mounts)
    (True, False)
    """
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text(errors="replace")
        except OSError:
            return False
    best, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        place = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[1]))  # a space is \040
        if path.is_relative_to(place) and len(place.parts) >= best:
            best, kind = len(place.parts), fields[2]
    return _NETWORK.fullmatch(kind) is not None
