# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The scores of an evaluation, from its confusion matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.metrics import accuracy, finite_or_none, iou, mean_iou
from reldistill_ros.core.vocabulary import Vocabulary


def summarise(totals: dict[str, NDArray[np.int64]], vocabulary: Vocabulary) -> dict[str, Any]:
    """Scores of student and teacher, None where no point counts.

    Classes without a true point have no IoU.
    """
    zero_shot, teacher = totals['zero_shot'], totals['teacher_visible']
    student = totals['student_visible']
    return {
        'zero_shot': {
            'miou': finite_or_none(mean_iou(zero_shot)),
            'accuracy': finite_or_none(accuracy(zero_shot)),
            'iou': _iou_by_class(zero_shot, vocabulary),
            'classes': len(_iou_by_class(zero_shot, vocabulary)),
            'points': int(zero_shot.sum()),
        },
        'teacher': {
            'miou_visible': finite_or_none(mean_iou(teacher)),
            'accuracy_visible': finite_or_none(accuracy(teacher)),
            'iou': _iou_by_class(teacher, vocabulary),
            'student_miou_visible': finite_or_none(mean_iou(student)),
            'student_accuracy_visible': finite_or_none(accuracy(student)),
            'student_iou': _iou_by_class(student, vocabulary),
            'points': int(teacher.sum()),
        },
    }


def _iou_by_class(confusion: NDArray[np.int64], vocabulary: Vocabulary) -> dict[str, float]:
    scores = zip(vocabulary.class_names, iou(confusion).tolist())
    return {name: score for name, score in scores if not np.isnan(score)}
