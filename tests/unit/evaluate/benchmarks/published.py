"""A few rows of every benchmark as its authors publish them, traps included, and what they are read as."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

TEST_MINI_ITEM = "72fb5481-73ae-409d-8e16-c94ac48d2ee4"


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What one sample must be."""

    id: str
    references: tuple[str, ...]
    audio: tuple[str, ...]
    """Names that must be among those of its audio."""
    question: str = ""
    choices: tuple[str, ...] = ()
    categories: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Published:
    """A file of the evaluated split."""

    name: str
    content: bytes
    samples: list[Expected]
    left_out: Mapping[str, int] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    """Published names of files of other splits and kinds."""


def _text(*lines: str, end: str = "\n") -> bytes:
    return "".join(line + end for line in lines).encode()


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode()


def _labels(identifier: str, *references: str, audio: str = "") -> Expected:
    return Expected(id=identifier, references=references, audio=(audio or identifier,))


def mmau_item(answer: str = "A child", **changes: object) -> dict[str, object]:
    """An item of MMAU's first page, as it was in 2024."""
    return {
        "audio_id": f"./test-mini-audios/{TEST_MINI_ITEM}.wav",
        "question": "Based on the given audio, identify the source of the speech.",
        "choices": ["A child", "A woman"],
        "answer": answer,
        "dataset": "AudioSet",
        "task": "sound",
        "split": "test-mini",
        "category": "Reasoning",
        "sub-category": "Acoustic Source Inference",
        "difficulty": "medium",
    } | changes


def _mmau_expected(*answer: str) -> Expected:
    return Expected(
        id=TEST_MINI_ITEM,
        references=answer,
        audio=(f"{TEST_MINI_ITEM}.wav",),
        question="Based on the given audio, identify the source of the speech.\n"
        'Select one option:\n"A child", "A woman"\n'
        "Answer with exactly one of these options, word for word, and nothing else.",
        choices=("A child", "A woman"),
        categories={
            "task": "sound",
            "difficulty": "medium",
            "category": "Reasoning",
            "sub-category": "Acoustic Source Inference",
        },
    )


_ORDER = ["['bell', 'rain']", "['rain', 'bell']"]
_MMAU_LIST_CATEGORY = mmau_item(
    _ORDER[0],
    id="43df3159",
    audio_id="./test-mini-audios/43df3159.wav",
    question="What was the order of the sounds?",
    choices=_ORDER,
    category=["Reasoning"],
    difficulty="easy",
)
_MMAU_LIST_EXPECTED = Expected(
    id="43df3159",
    references=(_ORDER[0],),
    audio=("43df3159.wav",),
    question="What was the order of the sounds?\nSelect one option:\n"
    "\"['bell', 'rain']\", \"['rain', 'bell']\"\n"
    "Answer with exactly one of these options, word for word, and nothing else.",
    choices=tuple(_ORDER),
    categories={
        "task": "sound",
        "difficulty": "easy",
        "category": "Reasoning",
        "sub-category": "Acoustic Source Inference",
    },
)


def air_bench_item(number: int, task: str, dataset: str, **changes: object) -> dict[str, object]:
    """A chat question of AIR-Bench."""
    return {
        "path": "evaluation_567.wav",
        "task_name": task,
        "dataset_name": dataset,
        "question": "What is heard?",
        "answer_gt": "Water runs.",
        "meta_info": "['Water drains.', 'A tank refills.']",
        "uniq_id": number,
    } | changes


_AIR_BENCH = _json(
    [
        air_bench_item(5, "speech_dialogue_QA", "fisher", path="0.72_28.54.wav"),
        air_bench_item(800, "sound_QA", "clotho"),
        air_bench_item(1200, "sound_generation_QA", "clotho"),
        air_bench_item(1300, "music_QA", "musiccaps", path="-5x.wav", meta_info={"instrument": "café"}),
        air_bench_item(1700, "music_generation_analysis_QA", "musiccaps", path="hFj.wav"),
        air_bench_item(1800, "speech_and_sound_QA", "mixed"),
    ]
)


def _air_bench_expected(number: int, task: str, dataset: str, path: str, meta_info: str) -> Expected:
    return Expected(
        id=str(number),
        references=("Water runs.",),
        audio=(f"Chat/{task}_{dataset}/{path}", f"{task}_{dataset}/{path}"),
        question="What is heard?",
        categories={"task_name": task, "dataset_name": dataset, "meta_info": meta_info},
    )


_WATER = "['Water drains.', 'A tank refills.']"

PUBLISHED = {
    "esc50": Published(
        name="esc50.csv",
        content=b"\xef\xbb\xbf"
        + _text(
            "filename,fold,target,category,esc10,src_file,take",
            "1-100032-A-0.wav,1,0,dog,True,100032,A",
            "5-9032-A-0.wav,5,49,hand_saw,False,9032,A",
            "5-9033-A-0.wav,5,49,,False,9033,A",
        ),
        samples=[_labels("1-100032-A-0.wav", "dog"), _labels("5-9032-A-0.wav", "hand_saw")],
        left_out={"not usable": 1},
    ),
    "dcase2017_task4": Published(
        name="groundtruth_weak_label_evaluation_set.csv",
        content=_text(
            "-JMT0mK0Dbg_30.000_40.000.wav\t30.000\t40.000\tTrain horn",
            "ePVb5Upev8k_40.000_50.000.wav\t40.000\t50.000\tTrain horn",
            "ePVb5Upev8k_40.000_50.000.wav\t40.000\t50.000\tAir horn, truck horn",
            "-JMT0mK0Dbg_30.000_40.000.wav\t30.000\t40.000\tTrain",
            "_8MvhMlbwiE_40.000_50.000.wav\t40.000\t50.000\tWaterfall",
        ),
        samples=[
            _labels(
                "-JMT0mK0Dbg_30.000_40.000", "Train horn", "Train", audio="Y-JMT0mK0Dbg_30.000_40.000.wav"
            ),
            _labels(
                "ePVb5Upev8k_40.000_50.000",
                "Train horn",
                "Air horn, truck horn",
                audio="ePVb5Upev8k_40.000_50.000.wav",
            ),
        ],
        left_out={"not usable": 1},
        refused=(
            "groundtruth_weak_label_testing_set.csv",
            "groundtruth_strong_label_evaluation_set.csv",
            "training_set.csv",
            "testing_set.csv",
        ),
    ),
    "tut2017": Published(
        name="meta.txt",
        content=_text(
            "audio/1.wav\tcafe/restaurant\tb123",
            "audio/0.wav\tbeach\tb017",
            "audio/b020_90_100.wav\tbeach\tb020",
            "audio/2.wav\t\tb017",
            end="\r\n",
        ),
        samples=[_labels("1.wav", "cafe/restaurant"), _labels("0.wav", "beach")],
        left_out={"of another split": 1, "not usable": 1},
        refused=("fold1_train.txt", "fold4_evaluate.txt", "map.txt", "test.txt", "error.txt"),
    ),
    "vggsound": Published(
        name="test.csv",
        content=_text(
            "glLQrEijrKg_000300.mp4,playing hammond organ",
            '-1q96j2YWtY_000010.mp4,"bird chirping, tweeting"',
            "-1q96j2YWtY_000010.mp4",
            end="\r\n",
        ),
        samples=[
            Expected(
                id="glLQrEijrKg_000300",
                references=("playing hammond organ",),
                audio=("glLQrEijrKg_000300", "glLQrEijrKg_300", "YglLQrEijrKg_300.000_310.000"),
            ),
            _labels("-1q96j2YWtY_000010", "bird chirping, tweeting", audio="Y-1q96j2YWtY_10"),
        ],
        left_out={"not usable": 1},
        refused=("train.csv", "stat.csv"),
    ),
    "urbansound8k": Published(
        name="UrbanSound8K.csv",
        content=_text(
            "slice_file_name,fsID,start,end,salience,fold,classID,class_name",
            "100032-3-0-0.wav,100032,0.0,0.317551,1,5,3,dog_bark",
            "100263-2-0-117.wav,100263,58.5,62.5,1,5,2,",
            end="\r\n",
        ),
        samples=[_labels("100032-3-0-0.wav", "dog_bark")],
        left_out={"not usable": 1},
    ),
    "gtzan": Published(
        name="names.txt",
        content=_text(
            "genres/hiphop/hiphop.00000.wav",
            "genres/jazz/jazz.00054.au",
            "genres/README.md",
            "polka.00000.wav",
        ),
        samples=[_labels("hiphop.00000.wav", "hip hop"), _labels("jazz.00054.au", "jazz")],
        left_out={"no audio file": 1, "not usable": 1},
    ),
    "beijing_opera": Published(
        name="names.txt",
        content=_text("205972__ajaysm__daluo-01.wav", "percussion/207912__ajaysm__xiaoluo6.wav", "drum.wav"),
        samples=[
            _labels("205972__ajaysm__daluo-01.wav", "Large gong"),
            _labels("207912__ajaysm__xiaoluo6.wav", "Small gong"),
        ],
        left_out={"not usable": 1},
    ),
    "vocalsound": Published(
        name="te.json",
        content=_json(
            {
                "data": [
                    {"wav": "/data/sls/audio_16k/f0003_0_throatclearing.wav", "labels": "/m/01hsr_"},
                    {"wav": "m0100_1_sigh.wav", "labels": "/m/07plz5l"},
                    {"wav": "m0100_1_song.wav", "labels": "/m/0"},
                ]
            }
        ),
        samples=[
            _labels("f0003_0_throatclearing.wav", "throat clearing"),
            _labels("m0100_1_sigh.wav", "sigh"),
        ],
        left_out={"not usable": 1},
        refused=("tr.json", "val.json", "te_age1.json"),
    ),
    "crema_d": Published(
        name="names.txt",
        content=_text(
            "AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1001_IEO_SAD_HI.wav", "AudioWAV/1001_IEO.wav"
        ),
        samples=[_labels("1001_DFA_ANG_XX.wav", "angry"), _labels("1001_IEO_SAD_HI.wav", "sad")],
        left_out={"not usable": 1},
    ),
    "nsynth": Published(
        name="examples.json",
        content=_json(
            {
                "bass_synthetic_068-049-025": {
                    "instrument_family_str": "bass",
                    "instrument_source_str": "synthetic",
                    "qualities_str": ["dark"],
                },
                "vocal_acoustic_000-051-127": {
                    "instrument_family_str": "vocal",
                    "instrument_source_str": "acoustic",
                },
                "vocal_acoustic_000-052-127": {"pitch": 52},
            }
        ),
        samples=[
            Expected(
                id="bass_synthetic_068-049-025",
                references=("bass",),
                audio=("bass_synthetic_068-049-025",),
                categories={"source": "synthetic"},
            ),
            Expected(
                id="vocal_acoustic_000-051-127",
                references=("vocal",),
                audio=("vocal_acoustic_000-051-127",),
                categories={"source": "acoustic"},
            ),
        ],
        left_out={"not usable": 1},
    ),
    "fsd50k": Published(
        name="eval.csv",
        content=_text(
            "fname,labels,mids",
            '37199,"Electric_guitar,Guitar,Music","/m/02sgy,/m/0342h,/m/04rlf"',
            "175151,Chirp_and_tweet,/m/07pggtn",
            "253463,,",
        ),
        samples=[
            _labels("37199", "Electric_guitar", "Guitar", "Music"),
            _labels("175151", "Chirp_and_tweet"),
        ],
        left_out={"not usable": 1},
        refused=("dev.csv", "vocabulary.csv"),
    ),
    "audiocaps": Published(
        name="test.csv",
        content=_text(
            "audiocap_id,youtube_id,start_time,caption",
            "103549,-7fmOlUlwoN,20,Constant rattling noise and sharp vibrations",
            "103548,6BJ455B1aAs,0,A rocket flies by followed by a loud explosion",
            '103550,-7fmOlUlwoN,20,"Rattling, then people speak"',
            "103551,6BJ455B1aAs,0,",
            end="\r\n",
        ),
        samples=[
            Expected(
                id="-7fmOlUlwoN",
                references=("Constant rattling noise and sharp vibrations", "Rattling, then people speak"),
                audio=(
                    "-7fmOlUlwoN",
                    "Y-7fmOlUlwoN",
                    "-7fmOlUlwoN_20",
                    "-7fmOlUlwoN_000020",
                    "-7fmOlUlwoN_20000",
                ),
            ),
            _labels("6BJ455B1aAs", "A rocket flies by followed by a loud explosion"),
        ],
        left_out={"not usable": 1},
        refused=("train.csv", "val.csv", "train_v2.csv"),
    ),
    "clotho": Published(
        name="clotho_captions_evaluation.csv",
        content=_text(
            "file_name,caption_1,caption_2,caption_3,caption_4,caption_5",
            'Wipers .wav,Wipers swipe.,"Rain falls, wipers move.",A car idles.,It rains.,A motor runs.',
            "Voz mañana...wav,A man speaks.,,Someone talks.,A voice.,Talk.",
        ),
        samples=[
            _labels(
                "Wipers .wav",
                "Wipers swipe.",
                "Rain falls, wipers move.",
                "A car idles.",
                "It rains.",
                "A motor runs.",
            ),
            _labels("Voz mañana...wav", "A man speaks.", "Someone talks.", "A voice.", "Talk."),
        ],
        left_out={"not usable": 1},
        refused=(
            "clotho_captions_development.csv",
            "clotho_captions_validation.csv",
            "clotho_metadata_evaluation.csv",
        ),
    ),
    "musiccaps": Published(
        name="musiccaps-public.csv",
        content=_text(
            "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,is_balanced_subset,"
            "is_audioset_eval",
            '-0Gj8-vB1q4,30,40,"/m/0140xf,/m/02cjck","[\'sad\', \'soulful\']","A ballad,\nslow and sad.",4,'
            "False,True",
            "-0SdAVK79lg,30,40,/m/0155w,\"['guitar song']\",A guitar plays.,0,False,False",
            "0xZZ,10,20,/m/0155w,\"['piano']\",A piano plays.,0,FALSE,TRUE",
            "0xYY,10,20,/m/0155w,\"['piano']\",A piano plays.,0,FALSE,perhaps",
            end="\r\n",
        ),
        samples=[
            Expected(
                id="-0Gj8-vB1q4",
                references=("A ballad,\nslow and sad.",),
                audio=("-0Gj8-vB1q4", "[-0Gj8-vB1q4]-[30-40]", "-0Gj8-vB1q4_30_40"),
            ),
            _labels("0xZZ", "A piano plays."),
        ],
        left_out={"of another split": 1, "not usable": 1},
    ),
    "clotho_aqa": Published(
        name="clotho_aqa_test_clean.csv",
        content=_text("file_name,QuestionText,answer")
        + '"Caf\xe9 1.wav","How many times, if any, does it ring?",ELEVEN\n'.encode("latin-1")
        + _text(
            '"Wipers .wav","Is it raining?",YES',
            '"Wipers .wav","Is it raining?",NO',
            '"Wipers .wav","How many dogs bark?",NONE',
            '"Wipers .wav","What is it?",',
        ),
        samples=[
            Expected(
                id="Café 1.wav/How many times, if any, does it ring?",
                references=("eleven",),
                audio=("Café 1.wav",),
                question="How many times, if any, does it ring?",
                categories={"kind": "single word"},
            ),
            Expected(
                id="Wipers .wav/Is it raining?",
                references=("yes",),
                audio=("Wipers .wav",),
                question="Is it raining?",
                categories={"kind": "yes or no"},
            ),
            Expected(
                id="Wipers .wav/Is it raining?/2",
                references=("no",),
                audio=("Wipers .wav",),
                question="Is it raining?",
                categories={"kind": "yes or no"},
            ),
            Expected(
                id="Wipers .wav/How many dogs bark?",
                references=("none",),
                audio=("Wipers .wav",),
                question="How many dogs bark?",
                categories={"kind": "single word"},
            ),
        ],
        left_out={"not usable": 1},
        refused=(
            "clotho_aqa_train_clean.csv",
            "clotho_aqa_val_clean.csv",
            "clotho_aqa_test.csv",
            "binary_test_clean.csv",
            "single_word_test_clean.csv",
        ),
    ),
    "musicqa": Published(
        name="EvalMusicQA.json",
        content=_json(
            [
                {
                    "audio_name": "012542.wav",
                    "conversation": [
                        {"from": "human", "value": question},
                        {"from": "gpt", "value": "The audio is a rock track."},
                    ],
                }
                for question in ("Describe the audio", "What is the mood?")
            ]
            + [{"audio_name": "012542.wav", "conversation": []}]
        ),
        samples=[
            Expected(
                id=f"012542.wav/{question}",
                references=("The audio is a rock track.",),
                audio=("012542.wav",),
                question=question,
            )
            for question in ("Describe the audio", "What is the mood?")
        ],
        left_out={"not usable": 1},
        refused=("PretrainMusicQA.json", "FinetuneMusicQA.json"),
    ),
    "mmau_test_mini": Published(
        name="mmau-test-mini.json",
        content=_json([mmau_item(), _MMAU_LIST_CATEGORY, mmau_item(""), mmau_item(choices=["Man"])]),
        samples=[_mmau_expected("A child"), _MMAU_LIST_EXPECTED],
        left_out={"not usable": 2},
        refused=("mmau-test.json",),
    ),
    "mmau_test_mini_2025": Published(
        name="mmau-test-mini.json",
        content=_json(
            [mmau_item("A woman", id=TEST_MINI_ITEM), _MMAU_LIST_CATEGORY, mmau_item(split="test")]
        ),
        samples=[_mmau_expected("A woman"), _MMAU_LIST_EXPECTED],
        left_out={"of another split": 1},
        refused=("mmau-test.json",),
    ),
    "mmau_test": Published(
        name="mmau-test.json",
        content=_json(
            [{key: value for key, value in mmau_item(split="test").items() if key != "answer"}, "broken"]
        ),
        samples=[_mmau_expected()],
        left_out={"not usable": 1},
        refused=("mmau-test-mini.json",),
    ),
    "mmar": Published(
        name="MMAR-meta.jsonl",
        content=_text(
            json.dumps(
                {
                    "id": "sCkZ_00-01-20",
                    "audio_path": "./audio/sCkZ_00-01-20.wav",
                    "question": "What year is it?",
                    "choices": [1999, "2001", "None"],
                    "answer": "2001",
                    "modality": "mix-sound-music",
                    "category": "Semantic Layer",
                    "sub-category": "Content Analysis",
                    "language": "en",
                    "rubric": ["a"],
                }
            ),
            "{broken",
        ),
        samples=[
            Expected(
                id="sCkZ_00-01-20",
                references=("2001",),
                audio=("sCkZ_00-01-20.wav",),
                question='What year is it?\nSelect one option:\n"1999", "2001", "None"\n'
                "Answer with exactly one of these options, word for word, and nothing else.",
                choices=("1999", "2001", "None"),
                categories={
                    "modality": "mix-sound-music",
                    "category": "Semantic Layer",
                    "sub-category": "Content Analysis",
                    "language": "en",
                },
            )
        ],
        left_out={"not usable": 1},
    ),
    "air_bench_sound": Published(
        name="Chat_meta.json",
        content=_AIR_BENCH,
        samples=[
            _air_bench_expected(800, "sound_QA", "clotho", "evaluation_567.wav", _WATER),
            _air_bench_expected(1200, "sound_generation_QA", "clotho", "evaluation_567.wav", _WATER),
        ],
        left_out={"of another task": 4},
        refused=("Foundation_meta.json",),
    ),
    "air_bench_music": Published(
        name="Chat_meta.json",
        content=_AIR_BENCH,
        samples=[
            _air_bench_expected(1300, "music_QA", "musiccaps", "-5x.wav", '{"instrument": "café"}'),
            _air_bench_expected(1700, "music_generation_analysis_QA", "musiccaps", "hFj.wav", _WATER),
        ],
        left_out={"of another task": 4},
        refused=("Foundation_meta.json",),
    ),
}
"""By name of the benchmark."""
