"""Licences: told by their texts, notices and package files; a policy decides which code is used."""

import importlib.metadata
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from demiurgic_jax.curation.licence_files import LicenceFolders, says_licence
from demiurgic_jax.curation.licences import UNKNOWN, LicencePolicy, detect_licence, licence_names
from demiurgic_jax.errors import UserError

COMMON = Path("/usr/share/common-licenses")
LICENCE_FILE = re.compile(r"(?i)licen[cs]e|copying")
DEBIAN = {
    "Apache-2.0": "Apache-2.0", "Artistic": "Artistic-1.0", "BSD": "BSD-3-Clause", "CC0-1.0": "CC0-1.0",
    "GFDL-1.2": "GFDL-1.2", "GFDL-1.3": "GFDL-1.3", "GPL-1": "GPL-1.0", "GPL-2": "GPL-2.0", "GPL-3": "GPL-3.0",
    "LGPL-2": "LGPL-2.0", "LGPL-2.1": "LGPL-2.1", "LGPL-3": "LGPL-3.0", "MPL-1.1": "MPL-1.1", "MPL-2.0": "MPL-2.0",
}  # fmt: skip
NOTICES = {
    "# SPDX-License-Identifier: MIT": "MIT",
    "/* SPDX-License-Identifier: (Apache-2.0 OR MIT) */": "(Apache-2.0 OR MIT)",
    "// SPDX-License-Identifier: GPL-2.0-only WITH Classpath-exception-2.0": "GPL-2.0-only WITH"
                                                                             " Classpath-exception-2.0",
    "# Licensed under the Apache License, Version 2.0 (the \"License\");\n# you may not use this file": "Apache-2.0",
    "// Use of this source code is governed by a BSD-style license that can be found": "BSD-3-Clause",
    "# This program is free software; you can redistribute it and/or modify it under the terms of\n# the GNU General"
    " Public License as published by the Free Software Foundation; either\n# version 2 of the License": "GPL-2.0",
    "/* This library is free software; under the terms of the GNU Lesser General Public\n * License as published by"
    " the Free Software Foundation; either version 2.1": "LGPL-2.1",
    "// under the terms of the GNU Affero General Public License as published by the FSF, version 3": "AGPL-3.0",
    "# This Source Code Form is subject to the terms of the Mozilla Public\n# License, v. 2.0.": "MPL-2.0",
    "// Distributed under the Boost Software License, Version 1.0.": "BSL-1.0",
    "/* Released under the MIT license */": "MIT",
    "# License: BSD 3 clause": "BSD-3-Clause",
    "# You can choose between two licenses: 1) GNU GPLv2 2) PSF license": "GPL-2.0 OR PSF-2.0",
    "Eclipse Public License - v 2.0": "EPL-2.0",
    "Server Side Public License VERSION 1": "SSPL-1.0",
    "Business Source License 1.1": "BUSL-1.1",
    "This is free and unencumbered software released into the public domain.": "Unlicense",
    "Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby"
    " granted, provided that the above copyright notice": "ISC",
    "Altered source versions must be plainly marked as such": "Zlib",
    "Creative Commons Attribution 4.0 International": "CC-BY-4.0",
}  # fmt: skip


@pytest.mark.parametrize(("notice", "licence"), NOTICES.items())
def test_notices_are_told_apart(notice, licence):
    assert detect_licence(notice + "\n") == licence


@pytest.mark.parametrize("text", ["", "x = 1\n", "# a licence to print money\n", "def permission(): pass\n"])
def test_code_that_names_no_licence_has_none(text):
    assert detect_licence(text) is None


def test_the_texts_that_the_system_has_are_told_by_their_words():
    if not COMMON.is_dir():
        pytest.skip(f"no {COMMON} here")
    texts = {name: COMMON / name for name in DEBIAN if (COMMON / name).exists()}
    assert {name: detect_licence(path.read_text(errors="replace")) for name, path in texts.items()} == {
        name: DEBIAN[name] for name in texts
    }


def python_packages():
    """Of each installed package that says one licence and has one text of it: licence, text."""
    for package in importlib.metadata.distributions():
        said = package.metadata.get("License-Expression") or ""
        yield said, [Path(str(file.locate())) for file in package.files or [] if LICENCE_FILE.match(file.name)]


def node_packages():
    for manifest in Path("/usr/lib/node_modules").rglob("package.json"):
        said = json.loads(manifest.read_text(errors="replace")).get("license")
        if isinstance(said, str):
            yield said, [path for path in manifest.parent.iterdir() if LICENCE_FILE.match(path.name)]


def test_of_a_hundred_licences_of_fifteen_kinds_95_are_told():
    """Ground truth is what the system names its texts, the notices above, and what packages say of themselves, where
    that is one licence and there is one text of it; at most 30 of a kind."""
    texts = {(DEBIAN[path.name], path.read_text(errors="replace")) for path in COMMON.glob("*") if path.name in DEBIAN}
    texts |= {(licence, notice) for notice, licence in NOTICES.items()}
    for said, files in [*python_packages(), *node_packages()]:
        if len(files) == 1 and re.fullmatch(r"[\w.-]+", said) and files[0].is_file():
            texts.add((said, files[0].read_text(errors="replace")))
    kinds: dict[str, list[str]] = {}
    for licence, text in sorted(texts):
        kinds.setdefault(licence, []).append(text)
    chosen = [(licence, text) for licence, of_kind in kinds.items() for text in of_kind[:30]]
    if len(kinds) < 15 or len(chosen) < 100:
        pytest.skip(f"this machine has {len(chosen)} licences of {len(kinds)} kinds")
    found = [(licence, detect_licence(text)) for licence, text in chosen]
    wrong = Counter(pair for pair in found if licence_names(pair[1] or "") != licence_names(pair[0]))
    print(f"{len(chosen)} licences of {len(kinds)} kinds, {sum(wrong.values())} wrong: {dict(wrong)}")
    assert sum(wrong.values()) <= 0.05 * len(chosen), wrong


def test_the_nearest_folder_decides_and_choices_are_known_by_their_names():
    texts = {
        "LICENSE": b"Apache License\nVersion 2.0, January 2004",
        "a/LICENSE-MIT": b"Released under the MIT license",
        "a/LICENSE-APACHE": b"Apache License Version 2.0",
        "b/COPYING": b"GNU GENERAL PUBLIC LICENSE\nVersion 2, June 1991",
        "b/COPYING.LESSER": b"GNU LESSER GENERAL PUBLIC LICENSE\nVersion 3",
        "c/package.json": b'{"name": "c", "license": "ISC"}',
    }
    assert all(says_licence(path.rpartition("/")[2]) for path in texts)
    assert not says_licence("license.py")
    folders = LicenceFolders(texts, texts.__getitem__)
    wanted = {
        "x.py": "Apache-2.0",
        "a/src/x.py": "Apache-2.0 OR MIT",
        "b/x.c": "GPL-2.0 AND LGPL-3.0",
        "c/lib/x.js": "ISC",
        "d/x.go": "Apache-2.0",
    }
    assert {path: folders.licence(path) for path in wanted} == wanted
    assert LicenceFolders([], texts.__getitem__).licence("x.py") is None


def test_the_policy_takes_what_it_says_and_counts_the_rest_by_name():
    permissive = LicencePolicy()
    taken = [
        "MIT",
        "mit",
        "Apache-2.0",
        "MIT OR GPL-2.0-only",
        "BSD-3-Clause AND MIT",
        "(Apache-2.0 OR MIT)",
        "PSF-2.0",
    ]
    refused = [
        "GPL-3.0",
        "MIT AND GPL-2.0",
        UNKNOWN,
        "LGPL-2.1-or-later",
        "LicenseRef-mine",
        "(MIT OR GPL-2.0) AND GPL-2.0",
    ]
    assert [permissive.refusal(each) for each in taken] == [None] * len(taken)
    assert Counter(map(permissive.refusal, refused)) == {
        "licence unknown": 1, **{f"licence {each}": 1 for each in refused if each != UNKNOWN}
    }  # fmt: skip
    assert LicencePolicy(allow=["LicenseRef-mine"]).refusal("LicenseRef-mine") is None
    assert LicencePolicy(deny=["mit"]).refusal("MIT") == "licence MIT"
    assert LicencePolicy("listed", allow=["MIT"]).refusal("Apache-2.0") == "licence Apache-2.0"
    assert LicencePolicy("any").refusal(UNKNOWN) is None
    assert LicencePolicy("any", deny=["GPL-3.0"]).refusal("GPL-3.0-or-later") == "licence GPL-3.0-or-later"
    with pytest.raises(UserError, match="'strict' is unknown"):
        LicencePolicy("strict")
    with pytest.raises(UserError, match="takes nothing"):
        LicencePolicy("listed")
