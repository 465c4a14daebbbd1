"""Writes `expected.json`: overlapping classes in five dimensions, and what scikit-learn's classifiers say of them.
`python make.py`, with scikit-learn 1.6 or newer."""

import json
import os

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, balanced_accuracy_score, confusion_matrix
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

random = np.random.default_rng(7)
num_classes, width = 4, 5
centers = random.normal(size=(num_classes, width))


def draw(count):
    labels = np.arange(count) % num_classes
    rows = centers[labels] + 1.2 * random.normal(size=(count, width))
    return np.round(rows * [1, 2, 3, 0.5, 1] + [0, 1, 0, 0, -2], 4), labels


train, train_labels = draw(80)
test, test_labels = draw(200)
scaler = StandardScaler().fit(train)
scaled, scaled_test = scaler.transform(train), scaler.transform(test)

expected = {
    "num_classes": num_classes,
    "train": train.tolist(), "train_labels": train_labels.tolist(),
    "test": test.tolist(), "test_labels": test_labels.tolist(),
    "heads": [],
}


def add(head, setting, model, rows, test_rows):
    predictions = model.fit(rows, train_labels).predict(test_rows)
    expected["heads"].append({
        "head": head, "setting": setting, "predictions": predictions.tolist(),
        "balanced_accuracy": balanced_accuracy_score(test_labels, predictions),
        "confusion": confusion_matrix(test_labels, predictions).tolist(),
    })


for cost in [0.01, 0.1, 1.0]:
    add("svm", cost, LinearSVC(C=cost, tol=1e-8, max_iter=100000), scaled, scaled_test)
    add("svc", cost, SVC(C=cost, kernel="linear", tol=1e-8), train, test)
    add("logistic", cost, LogisticRegression(C=cost, tol=1e-10, max_iter=10000), scaled, scaled_test)
for k in [1, 5, 10]:
    add("knn", k, KNeighborsClassifier(k, weights="distance"), scaled, scaled_test)

# A ranked list: the graded relevance of each place.
grades = random.integers(0, 4, size=30)
scores = -np.arange(30.0)
expected["ranking"] = {
    "grades": grades.tolist(),
    "average_precision": average_precision_score(grades > 0, scores),
}

file = os.path.join(os.path.dirname(os.path.abspath(__file__)), "expected.json")
with open(file, "w") as out:
    json.dump(expected, out, indent=None, separators=(",", ":"))
    out.write("\n")
