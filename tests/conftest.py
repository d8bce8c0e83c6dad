"""What several test files share: small logs with a rhythm that a model can learn; and
which tests are quick."""

import contextlib
import os
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

import attncore as ac

# What takes long begins first, the longest at the front, so that of two processes none
# is left with it in the end. What is neither slow nor marked otherwise is quick.
SLOW_FILES = (
    "test_pages.py",  # builds the book
    "test_archive.py",
    "test_first_cell.py",
    "test_gpu_script.py",
    "test_explorer_in_browser.py",
    "test_widgets.py",
    "test_distributed.py",
    "test_export.py",
    "test_benchmark.py",
    "test_wheel.py",
    "test_mutants.py",
)
SLOW_TESTS = {
    "test_a_bias_learns_which_event_matters_where_only_order_or_time_can_tell",
    "test_a_folder_that_is_replaced_while_it_is_read_gives_one_whole_run",
    "test_a_kill_in_the_middle_of_writing_changes_no_bit_of_the_result",
    "test_a_mistake_in_a_real_process_is_one_line_and_status_2",
    "test_a_model_made_for_cold_users_learns_what_comes_first",
    "test_a_prepared_log_is_the_log_in_memory",
    "test_a_profile_that_decides_is_learned",
    "test_a_second_writer_is_refused_in_one_line_and_changes_nothing",
    "test_a_training_is_not_disturbed_by_a_second_one",
    "test_any_file_is_prepared_as_it_is_read_or_refused_in_the_same_words",
    "test_any_log_is_prepared_as_it_is_read_in_any_number_of_shards",
    "test_any_text_id_survives_csv_to_the_letter",
    "test_attncore_does_not_import_matplotlib_and_names_the_mend_where_it_is_absent",
    "test_bench_prints_this_machines_figures",
    "test_compiled_training_equals_plain_training",
    "test_ids_with_commas_quotes_emoji_and_line_breaks_survive_every_format",
    "test_no_bytes_make_the_reader_fail_in_another_way_than_its_own",
    "test_ten_kills_at_random_moments_change_no_bit_of_the_result",
    "test_the_five_line_example_runs",
    "test_the_page_of_the_command_line_has_the_options_as_they_are",
    "test_the_training_that_is_killed_is_a_real_one",
    "test_training_learns_the_rhythm_and_repeats_to_the_bit",
    "test_two_hundred_thousand_items_are_evaluated_within_a_gibibyte",
    "test_two_workers_serve_the_file_by_its_name",
    "test_what_has_an_onnx_form_answers_alike_and_the_rest_says_so",
}
LONG_NOTEBOOKS = (
    "13_contextual.ipynb",
    "09_output_layer.ipynb",
    "12_personalized.ipynb",
    "02_query_key_value.ipynb",
    "03_softmax_and_weights.ipynb",
    "04_attention_layer.ipynb",
    "16_explaining.ipynb",
    "10_training.ipynb",
    "18_serving.ipynb",
    "05_self_attention.ipynb",
)
OF_THEIR_OWN = {"notebook", "slow", "network", "browser", "gpu"}


def pytest_addoption(parser):
    parser.addoption(
        "--device",
        default="cuda",
        help="where tests marked gpu run; on cpu they only show that they can",
    )
    parser.addoption(
        "--full",
        action="store_true",
        help="every planted bug, and twenty times the examples of each property",
    )


def pytest_configure(config):
    """Tests run in two processes, each of one thread, as do all that they start; how
    long an example of Hypothesis takes says nothing then."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    with contextlib.suppress(ImportError):  # a bare machine with a GPU lacks it
        from hypothesis import settings

        settings.register_profile("untimed", deadline=None)
        settings.load_profile("untimed")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Mark what is a notebook, what is slow, and what is quick: all the rest."""
    first = {name: place for place, name in enumerate((*SLOW_FILES, *LONG_NOTEBOOKS))}
    for item in items:
        if item.path.suffix == ".ipynb":
            item.add_marker("notebook")
        if item.path.name in SLOW_FILES or item.name.partition("[")[0] in SLOW_TESTS:
            item.add_marker("slow")
        if OF_THEIR_OWN.isdisjoint(marker.name for marker in item.iter_markers()):
            item.add_marker("quick")
    if config.getoption("full"):
        for test in {item.function for item in items if hasattr(item, "function")}:
            _draw_more(test)
    items.sort(key=lambda item: first.get(item.path.name, len(first)))


def _draw_more(test):
    """Let Hypothesis try new examples, and twenty times as many as the test says."""
    if not hasattr(test, "hypothesis"):
        return
    from hypothesis import settings

    # As @settings does, which may not be given twice.
    kept = "_hypothesis_internal_use_settings"
    said = getattr(test, kept, settings.default)
    more = {"max_examples": 20 * said.max_examples, "derandomize": False}
    setattr(test, kept, settings(said, **more))


@pytest.fixture(autouse=True)
def _repeatable():
    torch.manual_seed(0)


def rhythm_log(
    users: int = 40, items: int = 12, events: int = 10, seed: int = 0
) -> ac.Interactions:
    """Users who mostly walk the items in order, from a place of their own, with a few
    leaps."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        place = int(rng.integers(items))
        for time in range(events):
            rows.append((100 + user, 500 + place, time))
            place = (
                place + (1 if rng.random() < 0.9 else int(rng.integers(items)))
            ) % items
    return ac.Interactions.from_frame(
        pd.DataFrame(rows, columns=["user", "item", "time"]), name="rhythm"
    )


@pytest.fixture(scope="session")
def log() -> ac.Interactions:
    return rhythm_log()


@pytest.fixture(scope="session")
def split(log) -> ac.Split:
    return ac.leave_one_out(log)


@pytest.fixture
def small() -> ac.RecommenderConfig:
    return ac.RecommenderConfig(width=16, blocks=2, heads=2, length=8)


@pytest.fixture
def quick() -> ac.TrainingConfig:
    return ac.TrainingConfig(
        epochs=2,
        batch_size=16,
        warmup=2,
        progress=False,
        precision="float32",
        device="cpu",
    )


def need(found: bool, what: str) -> None:
    """Skip on a reader's machine that lacks something; fail in CI, where it must be
    there."""
    if not found and os.environ.get("CI"):
        pytest.fail(f"CI lacks {what}")
    if not found:
        pytest.skip(f"needs {what}")


@pytest.fixture(scope="session")
def browser():
    """Chromium, without a window."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    need(chromium is not None, "Chromium (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=chromium,
            args=["--headless", "--no-sandbox", "--disable-gpu"],
        )
        yield browser
        browser.close()


@pytest.fixture
def show(browser):
    """Opens explorers or widgets on an otherwise empty page; a test fails if a
    script does."""
    contexts, errors = [], []

    def shown(*explorers, scripts=True, width=700):
        context = browser.new_context(
            java_script_enabled=scripts, viewport={"width": width, "height": 800}
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        body = "".join(explorer.html for explorer in explorers)
        page.set_content(
            "<!doctype html><html"
            f' lang="en"><title>t</title><main><h1>t</h1>{body}</main></html>'
        )
        return page

    yield shown
    for context in contexts:
        context.close()
    assert errors == []
