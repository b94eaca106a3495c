# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What text encoders do to a text before they cut it into tokens.

CLIP's own cleaning, as OpenAI's tokenizer and open_clip have it: mend broken encodings, resolve
HTML entities twice, squeeze white space, and for most models lower the case; CLIPA and SigLIP drop
the punctuation of ASCII as well.
"""

from __future__ import annotations

import html
import string
from typing import Literal

from reldistill_ros.core.errors import import_extra

Cleaning = Literal['none', 'whitespace', 'lower', 'canonicalize']

_WITHOUT_PUNCTUATION = str.maketrans('_', ' ', string.punctuation.replace('_', ''))


def clean_text(text: str, cleaning: Cleaning) -> str:
    """The text as the tokenizer gets it.

    Raises:
        InputError: the cleaning needs the package ftfy, which is not installed.
    """
    if cleaning == 'none':
        return text
    text = import_extra('ftfy', 'words').fix_text(text)
    text = html.unescape(html.unescape(text)).strip()
    if cleaning == 'canonicalize':
        text = text.translate(_WITHOUT_PUNCTUATION)
    text = ' '.join(text.split())
    return text if cleaning == 'whitespace' else text.lower()
