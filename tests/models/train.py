"""Trains a small logistic regression and writes what MLServer needs to serve it into the directory that is named.

Prints, as JSON, what scikit-learn itself says of some rows: {"rows": [...], "labels": [...], "probabilities": [...]}.
"""

import json
import pathlib
import sys

import joblib
import numpy
from sklearn.linear_model import LogisticRegression

directory = pathlib.Path(sys.argv[1])
directory.mkdir(parents=True, exist_ok=True)

random = numpy.random.default_rng(7)
features = numpy.column_stack([random.uniform(0, 60, 500), random.integers(0, 200, 500)]).astype(float)
labels = ((features[:, 0] < 30) | (features[:, 1] > 150)).astype(int)
model = LogisticRegression(max_iter=1000).fit(features, labels)
joblib.dump(model, directory / "model.joblib")

settings = {
    "name": "signal",
    "implementation": "mlserver_sklearn.SKLearnModel",
    "parameters": {"uri": "./model.joblib", "version": "v1"},
    "inputs": [{"name": "signal", "datatype": "FP64", "shape": [-1, 2]}],
    "outputs": [
        {"name": "predict", "datatype": "INT64", "shape": [-1, 1]},
        {"name": "predict_proba", "datatype": "FP64", "shape": [-1, 2]},
    ],
}
(directory / "model-settings.json").write_text(json.dumps(settings))

rows = [[12.5, 20.0], [48.0, 10.0], [31.0, 190.0]]
said = {
    "rows": rows,
    # One by one, as they will be asked: sums of many rows are rounded otherwise.
    "labels": [model.predict([row]).tolist()[0] for row in rows],
    "probabilities": [model.predict_proba([row]).tolist()[0] for row in rows],
}
print(json.dumps(said))
