# What every run of our own configs shares; the mmseg-based ones take mmseg's default_runtime.
default_scope = "mmseg"
custom_imports = dict(
    imports=[
        "regional_al.engines.mmseg1.datasets",
        "regional_al.engines.mmseg1.backbones",
        "regional_al.engines.mmseg1.datasets",
    ],
    allow_failed_imports=False,
)
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)  # gloo is taken where there is no CUDA device
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=20, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)
log_processor = dict(by_epoch=False, window_size=20)
log_level = "INFO"
load_from = None
resume = False
