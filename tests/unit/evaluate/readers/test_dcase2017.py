"""DCASE 2017 task 4 in both formats: labels of a clip together, commas inside labels kept."""

from mats_ray.evaluate.readers import dcase2017
from tests.unit.data.sources.reading import write
from tests.unit.evaluate.reading import Entries

LISTED = (
    '06RreMb5qbE,0.000,10.000,"Ambulance (siren),Police car (siren),Car","/m/012n7d,/m/04qvtq,/m/0k4j"\n'
    '-E0shPRxAbo,30.000,40.000,"Train horn,Air horn, truck horn,Train","/m/0284vy3,/m/05x_td,/m/07jdr"\n'
    "-sJn3uUxpH8,30.000,40.000,Waterfall,/m/0j2kx\n"
)
WEAK = (
    "audio/-E0shPRxAbo_30.000_40.000.wav\t30.000\t40.000\tTrain horn\n"
    "06RreMb5qbE_0.000_10.000.wav\t0.000\t10.000\tAmbulance (siren)\n"
    "-E0shPRxAbo_30.000_40.000.wav\t30.000\t40.000\tAir horn, truck horn\n"
    "06RreMb5qbE_0.000_10.000.wav\t0.000\t10.000\tPolice car (siren)\n"
    "06RreMb5qbE_0.000_10.000.wav\t0.000\t10.000\tPolice car (siren)\n"
    "-E0shPRxAbo_30.000_40.000.wav\t30.000\t40.000\tTrain\n"
    "06RreMb5qbE_0.000_10.000.wav\t0.000\t10.000\tCar\n"
)


def by_id(entries):
    return {one.id: (one.audio, one.references) for one in entries.samples}


def test_both_formats_give_the_same_samples(tmp_path):
    listed = Entries(dcase2017.read, write(tmp_path, "evaluation_set.csv", LISTED))
    weak = Entries(dcase2017.read, write(tmp_path, "groundtruth_weak_label_evaluation_set.csv", WEAK))

    assert by_id(listed) == by_id(weak)
    assert set(by_id(weak)) == {"06RreMb5qbE_0.000_10.000", "-E0shPRxAbo_30.000_40.000"}


def test_a_label_with_a_comma_is_one_label_and_a_repeated_label_counts_once(tmp_path):
    weak = Entries(dcase2017.read, write(tmp_path, "w.csv", WEAK))

    assert dict(zip(weak.ids, weak.references, strict=True)) == {
        "-E0shPRxAbo_30.000_40.000": ("Train horn", "Air horn, truck horn", "Train"),
        "06RreMb5qbE_0.000_10.000": ("Ambulance (siren)", "Police car (siren)", "Car"),
    }


def test_audio_may_have_audiosets_prefix(tmp_path):
    listed = Entries(dcase2017.read, write(tmp_path, "l.csv", LISTED))

    assert listed.samples[0].audio == ("06RreMb5qbE_0.000_10.000.wav", "Y06RreMb5qbE_0.000_10.000.wav")


def test_other_classes_are_rejected(tmp_path):
    listed = Entries(dcase2017.read, write(tmp_path, "l.csv", LISTED))
    weak = Entries(dcase2017.read, write(tmp_path, "w.csv", "a_0_1.wav\t0\t1\tWaterfall\na_0_1.wav\t0\t1\n"))

    assert listed.rejected == [(3, "unknown label '/m/0j2kx'")]
    assert weak.rejected == [
        (1, "'Waterfall' is no class of the task"),
        (2, "'' is no class of the task"),
    ]
