"""Table 1 against hand-made numbers."""

from yseg.config import METHODS, SELF_TRAINING
from yseg.studies.paper import SUPERVISED, UNSUPERVISED
from yseg.studies.paper_table import NAMES, SCORINGS, table1


def row(method, seed, statistics, counts, **fields):
    tp, fp, fn = map(sum, zip(*counts, strict=True))
    return {"method": method, "seed": seed, "batch_statistics": statistics, "threshold_rule": "fixed", "views": 1,
            "iou": tp / (tp + fp + fn), "object_f1": None, "validation_iou": 0.75, "seconds_per_step": 0.5,
            "step_memory_mib": 120.4, "fraction": None, "counts": counts} | fields


def read(table):
    """A Markdown table as dict from method to dict by column."""
    headings, _, *lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines())
    return {line[0]: dict(zip(headings, line, strict=True)) for line in lines}


def test_the_table_holds_means_deviations_and_gains_in_per_cent():
    rows = [row("ft", 0, "training", [[2, 1, 1]] * 2), row("ft", 1, "training", [[3, 0, 1]] * 2),
            row("dann", 0, "training", [[3, 1, 0]] * 2, object_f1=0.5),
            row("dann", 1, "training", [[4, 0, 0]] * 2, object_f1=0.6),
            row("oracle", 0, "training", [[9, 0, 1]] * 2, validation_iou=None)]
    rows += [row("ft", 0, "target", [[1, 0, 1]] * 2, threshold_rule="matched"),
             row("ynet", 0, "training", [[4, 1, 0]] * 2, fraction=0.15), row("ft", 0, "target", [[3, 0, 1]] * 2, views=8),
             row("oracle", 0, "training", [[19, 0, 1]] * 2, views=8)]
    main, details = (read(table) for table in table1(rows, "VNC").split("\n\n"))
    assert main["source only"]["IoU, training statistics"] == "62.5 ± 17.7"  # 50 and 75
    assert main["source only"]["IoU, matched threshold"] == "50.0"
    assert main["source only"]["IoU, 8 views"] == "75.0"
    assert main["oracle"]["IoU, 8 views"] == "95.0"  # with its own statistics
    assert main["source only"]["paper"] == "28.70"
    assert (main["source only"]["HeLa"], main["source only"]["paper, HeLa"]) == ("-", "8.83")
    assert main["DANN"]["IoU, training statistics"] == "87.5 ± 17.7"  # 75 and 100
    assert details["DANN"]["gain, training statistics"] == "+25.0 (25.0 to 25.0)"  # the same for every section and seed
    assert details["DANN"]["object F1, training statistics"] == "55.0 ± 7.1"
    assert (main["DANN"]["s/step"], main["DANN"]["step memory, MiB"]) == ("0.50", "120")
    assert main["Y-Net, fine-tuned on 15 %"]["IoU, training statistics"] == "80.0"
    assert main["Y-Net, fine-tuned on 15 %"]["paper"] == "-"
    assert details["Y-Net, fine-tuned on 15 %"]["gain, training statistics"] == "-"  # it has seen labels
    assert main["oracle"] | {"IoU, training statistics": "90.0", "paper": "-", "source validation IoU": "-"} == main["oracle"]
    assert main["oracle"]["seeds"] == "1"


def test_the_papers_figures_stand_beside_its_own_targets_alone():
    rows = [row("ynet", 0, "training", [[2, 1, 1]])]
    assert "paper" not in table1(rows)
    main = read(table1(rows, "HeLa").split("\n\n")[0])
    assert main["Y-Net"]["paper"] == "22.51"
    assert "HeLa" not in main["Y-Net"]


def test_every_method_and_way_of_scoring_has_a_name():
    assert set(NAMES) == {*METHODS, *(f"{name}_adapted" for name in METHODS if name != SELF_TRAINING), "joint", "oracle"}
    assert set(SCORINGS) == {*UNSUPERVISED, *SUPERVISED}
