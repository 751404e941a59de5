"""Messages whose remedies other tests run, and those that no test here can run, with the reason."""

TABLES = "stages/test_table_remedies.py::test_an_option_that_a_message_prints_works"
WHOLE = "stages/test_damage.py::"
WORDS = (
    "test_overrides.py::test_a_value_that_can_be_read_in_two_ways_is_refused_with_the_one_to_paste"
)
INSPECTED = (
    "stages/test_inspect.py::test_the_printed_command_is_the_one_of_the_page_and_can_be_pasted"
)

ELSEWHERE = {
    "test_overrides.py::test_a_folder_or_table_in_place_of_a_source_is_answered_with_what_selects_it": [
        ("selections.py", "quote_override(f'{group}.{key}.{name}'"),
    ],
    "test_overrides.py::test_a_path_alone_is_answered_with_what_selects_it": [
        ("selections.py", "quote_override('experiment'"),
    ],
    TABLES: [
        ("data/cohort.py", "the sources name splits"),
        ("data/reading/image_tables.py", ".columns.{problem.role}"),
        ("data/reading/image_tables.py", ".by_name=true"),
        ("data/source_labels.py", "leaves their images out"),
        ("data/unusable.py", "screening.most_left_out="),
    ],
    "stages/test_prepare.py::test_leakage_in_a_sources_own_splits_stops": [
        ("data/leakage.py", "pairs of near-duplicate images"),
    ],
    "stages/test_prepare.py::test_an_external_patient_of_the_cohort_stops_or_is_left_out": [
        ("data/leakage.py", "external test sets must share no patients"),
    ],
    "stages/test_prepare.py::test_confounding_stops_until_it_is_acknowledged_and_is_then_recorded": [
        ("data/audit.py", "acknowledge_confounding=true"),
    ],
    "stages/test_screening.py::"
    "test_one_picture_under_two_labels_stops_and_each_offered_option_helps": [
        ("data/two_labels.py", "under two labels"),
    ],
    "stages/test_screening.py::test_more_unusable_files_than_the_limit_stop_and_the_offered_option_helps": [
        ("data/unusable.py", "screening.unusable=stop"),
    ],
    "data/fetching/test_collections.py::test_a_source_downloads_only_when_asked": [
        ("data/fetching/collections.py", ".download=true to download it"),
    ],
    "data/sources/test_hub.py::test_the_remedy_for_a_damaged_file_repairs_it": [
        ("data/sources/_hub_parquet.py", "download it again after"),
    ],
    "data/sources/test_hub.py::test_an_unknown_label_column_is_asked_for": [
        ("data/sources/_hub_parquet.py", "which column holds"),
    ],
    "data/sources/test_dicom_exports.py::"
    "test_an_export_without_class_folders_is_refused_and_the_remedy_works": [
        ("data/sources/dicom.py", "with the columns {key} and label"),
    ],
    "data/sources/test_medmnist.py::test_a_missing_file_is_downloaded_and_checked": [
        ("data/sources/medmnist.py", "there is nothing at"),
    ],
    "stages/test_folders.py::"
    "test_the_command_that_finds_a_pattern_can_be_pasted_and_so_can_what_it_prints": [
        ("data/sources/folder.py", "xraysynth inspect"),
    ],
    "stages/test_folders.py::test_dicom_files_in_folders_name_a_command_that_reads_them": [
        ("data/sources/folder.py", "source.dicom.root"),
        ("data/sources/folder.py", "source=dicom"),
    ],
    "stages/test_damage.py::test_a_damaged_image_of_the_cohort_is_read_again_by_prepare": [
        ("data/pixels.py", "read again by xraysynth prepare"),
    ],
    "stages/test_damage.py::test_a_damaged_checkpoint_is_refused_with_the_words_that_remove_it": [
        ("training/callbacks.py", "rm {checkpoint}"),
    ],
    "jobs/test_store.py::test_a_damaged_line_of_a_journal_is_named_and_its_removal_mends_the_store": [
        ("files.py", "sed -i"),
    ],
    WORDS: [
        ("hydra_values.py", "if it is one text"),
        ("hydra_values.py", "for a list write"),
    ],
    "test_environment.py::test_the_command_that_the_refusal_names_is_not_refused": [
        ("jobs/distributed.py", "has started this command"),
    ],
    "jobs/test_sweeps.py::test_optuna_looks_for_the_highest_macro_f1_on_validation": [
        ("jobs/launchers.py", "hydra/sweeper=optuna"),
    ],
    "jobs/test_sweeps.py::test_after_a_kill_only_what_was_not_done_is_repeated": [
        ("launch.py", "runs the jobs of a multirun"),
    ],
    "data/sources/test_xrv.py::test_unknown_names_are_refused_with_a_mapping_that_works": [
        ("data/sources/xrv.py", "map them to classes"),
    ],
    "stages/test_paid.py::test_credentialed_data_and_services_do_not_meet_in_one_run": [
        ("stages/generate.py", "sends prompts to an outside service"),
    ],
    INSPECTED: [
        ("stages/_inspect/choices.py", "quote_override(self.name"),
        ("stages/_inspect/choices.py", "xraysynth {stage}"),
        ("stages/_inspect/choices.py", "xraysynth inspect"),
    ],
    "stages/test_inspect.py::test_one_class_is_said_with_the_command_that_joins_it": [
        ("stages/_inspect/neighbours.py", "xraysynth inspect"),
    ],
    "evaluation/reader_study/test_build.py::"
    "test_images_of_bound_sources_leave_the_house_only_when_the_terms_allow_it": [
        ("stages/review_build.py", "a kit contains its images"),
    ],
    "stages/test_release.py::test_what_was_learned_from_bound_data_stays_until_terms_are_acknowledged": [
        ("stages/release.py", "come from generators"),
    ],
    "stages/test_release.py::test_a_report_that_leaves_damaged_work_out_is_not_released": [
        ("stages/release.py", "leaves out finished work"),
    ],
    "jobs/test_ddp.py::test_torchrun_trains_one_classifier_and_keeps_one_record": [
        ("training/recipe.py", "torchrun --nproc_per_node"),
    ],
}
"""A test -> (file, part) of the messages whose remedies it runs."""

NOT_RUN = {
    "installs a package; that the extra exists is tested": [
        ("data/dicom/decoding.py", "pip install"),
        ("data/fetching/idc.py", "pip install"),
        ("data/fetching/kaggle.py", "pip install"),
        ("data/sources/_phantom.py", "pip install"),
        ("data/sources/medmnist.py", "pip install"),
        ("evaluation/reader_study/agreement.py", "pip install"),
        ("generation/generators/_openvino.py", "pip install"),
        ("jobs/launchers.py", "pip install"),
        ("release/croissant.py", "pip install"),
        ("tracking/dashboard.py", "pip install"),
    ],
    "another program, which may not be installed": [
        ("data/dicom/decoding.py", "gdcmconv --raw"),
        ("training/pretrained.py", "hf cache rm"),
    ],
    "needs a GPU, or several": [
        ("generation/generators/_engines.py", "runs on the CPU; got"),
        ("jobs/distributed.py", "GPUs; start torchrun with"),
    ],
    "several processes that a launcher has started": [
        ("jobs/distributed.py", "must be a whole number"),
        ("launch.py", "starts jobs from one process"),
        ("launch.py", "xraysynth study"),
        ("stages/train.py", "must be divisible by"),
    ],
    "needs other data of the user: a collection that is downloaded": [
        ("data/sources/medmnist.py", "labels per image"),
    ],
    "stands for what only the user knows: a path, a name, a key": [
        ("generation/images_api/endpoint.py", "holds no key for"),
        ("generation/images_api/outcomes.py", "generator=archive"),
        ("generation/images_api/catalogue.py", "generator=archive"),
        ("hydra_values.py", "'first': 'value'"),
        ("stages/_folder_comparison.py", "real=DIR synthetic=DIR"),
        ("stages/inspect.py", "xraysynth inspect PATH"),
        ("stages/inspect.py", "has no switch"),
        ("stages/review_demo.py", "review.exports=FILE"),
    ],
    "the stages check it before with a command, which a case runs; from Python alone": [
        ("generation/lora/folder.py", "by xraysynth finetune"),
        ("generation/lora/folder.py", "make one by xraysynth finetune"),
        ("generation/lora/training.py", "lora.patience="),
        ("generation/schedulers.py", "lora.zero_terminal_snr=false"),
        ("release/inputs.py", "by xraysynth finetune"),
        ("training/classifier.py", "classifier.class_weighting=none"),
        ("training/classifier.py", "has no hparams"),
        ("training/mixing.py", "left to repeat"),
        ("training/mixing.py", "generate more with"),
    ],
    "the whole command of a stage as other cases run it": [
        ("stages/_folder_comparison.py", "workspace.command('evaluate')"),
        ("stages/_study/finished.py", "workspace.command('"),
        ("stages/prepare.py", "workspace.command('prepare')"),
        ("stages/release.py", "workspace.command('finetune')"),
        ("stages/report.py", "workspace.command('study')"),
        ("stages/review_analyse.py", "workspace.command('review analyse')"),
    ],
    "says what is, and is no error": [
        ("cli.py", "xraysynth {stage}"),
        ("cli.py", "usage: xraysynth"),
        ("data/inspection/rehearsal.py", "screening.most_left_out="),
        ("data/sources/hub.py", ".files={self.files}"),
        ("evaluation/folders.py", "are not the published FID"),
        ("generation/generators/sd_lora.py", "adapts another model"),
        ("launch.py", "xraysynth {stage}"),
        ("release/croissant.py", "made with xraysynth"),
        ("release/origin.py", "xraysynth {__version__}"),
        ("stages/_folder_comparison.py", "trained_on=DIR"),
        ("stages/_inspect/patient_sources.py", "source=used['source']"),
        ("stages/generate.py", "the others have cost"),
        ("stages/review_build.py", "another version of xraysynth"),
        ("data/reading/image_tables.py", "no row of"),
        ("tracking/dashboard.py", "xraysynth {name}"),
        ("usage.py", ""),
    ],
}
"""Why no test runs a remedy -> (file, part) of the messages."""
