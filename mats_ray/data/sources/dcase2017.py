"""DCASE 2017 task 4: 17 classes for smart cars. Some class names contain the comma that joins them.

So the classes are read from the machine ids beside the names.
"""

from collections.abc import Iterator

from mats_ray.data.annotations.csv_records import table_records
from mats_ray.data.annotations.reader import AnnotationFile, Entry, Rejected
from mats_ray.data.sources.audioset import labelled

CLASSES = {
    "/m/0284vy3": "Train horn",
    "/m/05x_td": "Air horn, truck horn",
    "/m/02mfyn": "Car alarm",
    "/m/02rhddq": "Reversing beeps",
    "/m/0199g": "Bicycle",
    "/m/06_fw": "Skateboard",
    "/m/012n7d": "Ambulance (siren)",
    "/m/012ndj": "Fire engine, fire truck (siren)",
    "/m/0dgbq": "Civil defense siren",
    "/m/04qvtq": "Police car (siren)",
    "/m/03qc9zr": "Screaming",
    "/m/0k4j": "Car",
    "/t/dd00134": "Car passing by",
    "/m/01bjv": "Bus",
    "/m/07r04": "Truck",
    "/m/04_sv": "Motorcycle",
    "/m/07jdr": "Train",
}


def read(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``training_set.csv`` or ``testing_set.csv``: id, start, end, "labels", "mids"."""
    for record in table_records(file, names=("ytid", "start", "end", "labels", "mids")):
        if isinstance(record, Rejected):
            yield record
        else:
            number, cells = record
            yield labelled(number, f"{cells['ytid']}_{cells['start']}", cells["mids"].split(","), CLASSES)
