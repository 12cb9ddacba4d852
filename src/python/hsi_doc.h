/* hsi_doc.h - the docstrings of HSI, for hsi.c alone. */
#ifndef MET_PY_HSI_DOC_H
#define MET_PY_HSI_DOC_H

#include <Python.h>

/* clang-format off */

PyDoc_STRVAR(hsi_doc,
"HSI(*, image, wavelengths, orientation=('C', 'H', 'W'), device=None, binary_mask=None,\n"
"    wavelength_unit=None, georeference=None, source=None)\n"
"--\n"
"\n"
"A hyperspectral image: values, the wavelengths of its bands, and which values to use.\n"
"\n"
"The image is a view of the memory that was given. It is copied only where a tensor can't share that memory: another\n"
"byte order, negative strides, another device. Read-only arrays and memory-mapped files are shared too.\n"
"\n"
"Parameters\n"
"----------\n"
"image : torch.Tensor, numpy.ndarray, DLPack or buffer object, or an array of another package\n"
"    Three axes in the order of `orientation`, of bools, integers or floats; the dtype is kept. Also, read when the HSI\n"
"    is made: a dask array or h5py dataset; and an xarray.DataArray, a dataset that rasterio has opened, or an image of\n"
"    SPy, which bring their wavelengths, no-data values and georeference along. `source` says what was done; see\n"
"    from_xarray().\n"
"wavelengths : torch.Tensor, numpy.ndarray, list, tuple or range\n"
"    Centre of each band in nm, shape ``(bands,)``: finite numbers above 0, in any order. May be left out where the\n"
"    image brings them along.\n"
"orientation : tuple, list or str\n"
"    The letters C (bands), H (rows) and W (columns) in the order of the image's axes.\n"
"device : str, torch.device or None\n"
"    Where image and mask live; None: where the image is.\n"
"binary_mask : torch.Tensor, numpy.ndarray, list, 'artificial' or None\n"
"    True, or any number but 0, means: use this value. Two axes are the spatial ones, in the image's order; other shapes\n"
"    are broadcast to that of the image. None: use all; ``'artificial'``: the pixels whose first band is not zero.\n"
"wavelength_unit : str or None\n"
"    Unit of `wavelengths`, such as ``'um'``, which are converted to nm. None: nm, with a warning where they look like\n"
"    micrometres (0.4 to 2.5).\n"
"georeference : meteors_c.io.Georeference or None\n"
"    Where the image lies; kept by copies, and written with results.\n"
"source : str or None\n"
"    Where the image comes from, in words.\n""\n"
"Raises\n"
"------\n"
"TypeError\n"
"    An argument of a type that can't be used, or an image that is not 3-D.\n"
"ShapeMismatchError\n"
"    Wavelengths or mask that do not fit the image, or a mask that fits in two ways: ``(8, 8)`` in an HWC image of\n"
"    shape ``(8, 8, 8)`` could be rows and columns or, as broadcasting has it, columns and bands. Three axes say which.\n"
"OrientationError, DeviceError\n"
"    An orientation or a device that is none.\n"
"ValidationError\n"
"    The base of those three; by itself for an argument that is missing, an empty image, an unknown mask name, a mask of\n"
"    floats with NaN or infinity, or a wavelength that is NaN, infinite or not above 0.\n"
"ValueError\n"
"    A wavelength unit that is unknown or is none of length.\n"
"\n"
"Notes\n"
"-----\n"
"Attributes can be replaced. Each new value is checked for itself; whether image, wavelengths, orientation and mask\n"
"agree is checked where they are used together. Two HSI are equal where all fields are, value by value (so an image\n"
"with NaN equals only itself); like other mutable values, they are not hashable.\n"
"\n"
"What is under the mask never has an effect, NaN and infinity included.\n"
"\n"
"Examples\n"
"--------\n"
">>> import torch\n"
">>> from meteors_c import HSI\n"
">>> HSI(image=torch.rand(3, 20, 30), wavelengths=[480.0, 560.0, 650.0])\n"
"HSI(shape=(3, 20, 30), dtype=torch.float32, orientation=CHW, wavelengths=480-650 nm, device=cpu, masked=False)");

PyDoc_STRVAR(image_doc,
"The values: a 3-D torch.Tensor on the memory that was given. Where that was read-only (an array that is not writeable,\n"
"a file mapped with mode 'r', bytes), the tensor must not be written to: torch does not refuse, and the process may end.\n"
"Take image.clone() instead.");

PyDoc_STRVAR(wavelengths_doc, "Centres of the bands in nm: torch.Tensor of shape (bands,).");

PyDoc_STRVAR(orientation_doc, "The letters C, H and W in the order of the image's axes, as a tuple.");

PyDoc_STRVAR(device_doc, "The torch.device where masks and later work go. Replacing it moves nothing: see to().");

PyDoc_STRVAR(mask_doc,
"Which values to use: bool torch.Tensor of the image's shape. It may repeat memory along axes that it does not depend\n"
"on, or share memory that was given as read-only: assign another mask rather than write to it. Assigning None means all.");

PyDoc_STRVAR(georeference_doc,
"Where the image lies: an object such as meteors_c.io.Georeference, with crs (WKT) and transform (six numbers), or None.\n"
"It stays with copies, on other devices and in other orientations.");

PyDoc_STRVAR(source_doc,
"How the image was read from a file or from an array of another package, in words: str, or None where it was not.");

PyDoc_STRVAR(from_xarray_doc,
"from_xarray($type, /, da, spectral='wavelength', *, binary_mask=None, nodata=None,\n"
"            wavelengths=None, wavelength_unit=None, device=None)\n"
"--\n"
"\n"
"An image from a labelled array; see meteors_c.io.open_scene() for files.\n"
"\n"
"Parameters\n"
"----------\n"
"da : xarray.DataArray\n"
"    Three dimensions in any order. One backed by dask or by a file is computed here, when the HSI is made.\n"
"spectral : str\n"
"    The dimension of the bands, or a coordinate along it with their wavelengths.\n"
"binary_mask : as in HSI(), xarray.DataArray or None\n"
"    Which values to use of those that are valid; axes that have no names are (bands, rows, columns).\n"
"nodata : float or None\n"
"    The value that marks missing ones; None: what the array says (``rio.nodata``, ``_FillValue``).\n"
"wavelengths : array of numbers or None\n"
"    Instead of the coordinate.\n"
"wavelength_unit : str or None\n"
"    Unit of the wavelengths; None: the attribute ``units`` of the coordinate. Without either it is found out where\n"
"    only one unit is possible, with a warning.\n"
"device : str, torch.device or None\n"
"    Where the image goes.\n"
"\n"
"Returns\n"
"-------\n"
"HSI\n"
"    In the orientation CHW, as a view of the array's memory where nothing is missing. Bands keep their order, whether\n"
"    wavelengths ascend or not. The mask leaves out NaN and no-data, value by value; such values are 0 in the image, as\n"
"    they are for the model.\n"
"\n"
"Raises\n"
"------\n"
"ValueError\n"
"    No wavelengths, one that is missing (which), or a unit that is unknown.\n"
"TypeError\n"
"    Something else than a DataArray.\n"
"\n"
"Examples\n"
"--------\n"
">>> import numpy as np, xarray\n"
">>> from meteors_c import HSI\n"
">>> values = np.array([[[0.1, np.nan]], [[0.2, 0.3]]], dtype=np.float32)\n"
">>> da = xarray.DataArray(values, dims=('wavelength', 'y', 'x'),\n"
"...                       coords={'wavelength': ('wavelength', [0.65, 0.48], {'units': 'um'})})\n"
">>> hsi = HSI.from_xarray(da)\n"
">>> hsi.wavelengths\n"
"tensor([650., 480.], dtype=torch.float64)\n"
">>> hsi.binary_mask[0]\n"
"tensor([[ True, False]])");

PyDoc_STRVAR(named_bands_doc,
"bands($self, name, /)\n"
"--\n"
"\n"
"The bands of a spectral region, of a sensor's band, or of a spectral index.\n"
"\n"
"Parameters\n"
"----------\n"
"name : str, tuple (low, high), or list of these\n"
"    A name of meteors_c.spectral.regions() (``'red edge'``), a band of a sensor (``'sentinel2a B5'``), a name or an\n"
"    index of spyndex (``'RE1'``, ``'NDVI'``), or a range in nm, ends included.\n"
"\n"
"Returns\n"
"-------\n"
"numpy.ndarray of int64\n"
"    Indices of the image's bands, ascending; empty where it has none there.\n"
"\n"
"Raises\n"
"------\n"
"BandSelectionError\n"
"    An unknown name; the message has the nearest ones.\n"
"\n"
"Examples\n"
"--------\n"
">>> import torch\n"
">>> from meteors_c import HSI\n"
">>> HSI(image=torch.rand(4, 2, 2), wavelengths=[560.0, 705.0, 740.0, 865.0]).bands('red edge')\n"
"array([1, 2])");

PyDoc_STRVAR(spectral_axis_doc, "The axis of the bands: 0, 1 or 2.");

PyDoc_STRVAR(spatial_mask_doc, "The mask at the first band: bool torch.Tensor over the two spatial axes.");

PyDoc_STRVAR(to_doc,
"to($self, /, device)\n"
"--\n"
"\n"
"Move image and mask, in place.\n"
"\n"
"Parameters\n"
"----------\n"
"device : str or torch.device\n"
"\n"
"Returns\n"
"-------\n"
"HSI\n"
"    This object.\n"
"\n"
"Raises\n"
"------\n"
"DeviceError\n"
"    There is no such device; nothing has changed.");

PyDoc_STRVAR(change_orientation_doc,
"change_orientation($self, /, target_orientation, inplace=False)\n"
"--\n"
"\n"
"Permute the axes of image and mask, as views of the same memory.\n"
"\n"
"Parameters\n"
"----------\n"
"target_orientation : tuple, list or str\n"
"    C, H and W in the order wanted.\n"
"inplace : bool\n"
"    Change this object instead of returning another one.\n"
"\n"
"Returns\n"
"-------\n"
"HSI\n"
"    This object, or a new one that shares all other fields.\n"
"\n"
"Raises\n"
"------\n"
"OrientationError\n"
"    A ValueError; nothing has changed.");

PyDoc_STRVAR(get_image_doc,
"get_image($self, /, apply_mask=True)\n"
"--\n"
"\n"
"The image with unused values set to zero.\n"
"\n"
"Parameters\n"
"----------\n"
"apply_mask : bool\n"
"    False: the image itself, not a copy.\n"
"\n"
"Returns\n"
"-------\n"
"torch.Tensor\n"
"    The image where the mask is true and 0 elsewhere, also where the image is NaN or infinite there, in a new tensor of\n"
"    the image's shape and dtype; differentiable where the image is.");

#define BAND_PARAMETERS \
    "apply_mask : bool\n" \
    "    Set unused values to zero; they do not count where the others are stretched.\n" \
    "apply_min_cutoff : bool\n" \
    "    Take the minimum over the values that are not zero, and set the smallest values to zero afterwards. Ignored\n" \
    "    without `normalize`.\n"

PyDoc_STRVAR(extract_band_doc,
"extract_band_by_name($self, /, band_name, selection_method='center',\n"
"                     apply_mask=True, apply_min_cutoff=False, normalize=True)\n"
"--\n"
"\n"
"The central band of a named range of wavelengths.\n"
"\n"
"Parameters\n"
"----------\n"
"band_name : str\n"
"    A name of spyndex's band table, such as 'R', 'RE1' or 'N'.\n"
"selection_method : str\n"
"    Only 'center': of the m bands inside the range, in ascending order of wavelength, the one at m // 2.\n"
BAND_PARAMETERS
"normalize : bool\n"
"    Stretch the finite values to [0, 1]; NaN and infinity become 0. A constant band stays as it is.\n"
"\n"
"Returns\n"
"-------\n"
"torch.Tensor\n"
"    The two spatial axes in the image's order. Integers become float32 where they are normalised.\n"
"\n"
"Raises\n"
"------\n"
"BandSelectionError\n"
"    An unknown name, or no wavelength of the image inside its range.\n"
"NotImplementedError\n"
"    Another selection method.");

PyDoc_STRVAR(get_rgb_doc,
"get_rgb_image($self, /, apply_mask=True, apply_min_cutoff=False,\n"
"              output_channel_axis=None, normalize=True)\n"
"--\n"
"\n"
"The bands R, G and B, stacked.\n"
"\n"
"Parameters\n"
"----------\n"
BAND_PARAMETERS
"output_channel_axis : int or None\n"
"    Where the three colours go; None: where the bands are.\n"
"normalize : bool\n"
"    Stretch each colour to [0, 1].\n"
"\n"
"Returns\n"
"-------\n"
"torch.Tensor\n"
"    Three axes, the spatial ones in the image's order.\n"
"\n"
"Raises\n"
"------\n"
"BandSelectionError\n"
"    The image has no wavelength in one of the three ranges; see get_picture().");

PyDoc_STRVAR(get_picture_doc,
"get_picture($self, /, apply_mask=True, apply_min_cutoff=False,\n"
"            output_channel_axis=None)\n"
"--\n"
"\n"
"A picture of any image, and a note where its colours are false.\n"
"\n"
"The bands R, G and B where the image has all three. Otherwise, of its bands in ascending order of wavelength, the ones\n"
"at 5/6, 1/2 and 1/6 are shown as red, green and blue: the longest wavelength is red, and fewer than three bands are\n"
"repeated.\n"
"\n"
"Parameters\n"
"----------\n"
BAND_PARAMETERS
"output_channel_axis : int or None\n"
"    Where the three colours go; None: where the bands are.\n"
"\n"
"Returns\n"
"-------\n"
"picture : torch.Tensor\n"
"    Three axes, the spatial ones in the image's order; each colour stretched to [0, 1] as in extract_band_by_name().\n"
"note : str or None\n"
"    None where the colours are red, green and blue; otherwise the bands, for a title.\n"
"\n"
"Examples\n"
"--------\n"
">>> import torch\n"
">>> from meteors_c import HSI\n"
">>> picture, note = HSI(image=torch.rand(3, 20, 30), wavelengths=[1000, 1300, 1600]).get_picture()\n"
">>> note\n"
"'bands at 1000, 1300, 1600 nm'");

PyDoc_STRVAR(substitute_bands_doc,
"_substitute_bands($self, /)\n"
"--\n"
"\n"
"The bands that get_picture() shows as red, green and blue where the image lacks those.\n"
"\n"
"Returns\n"
"-------\n"
"tuple of int\n"
"    Three indices, that of the longest wavelength first.");

PyDoc_STRVAR(central_slice_doc,
"_extract_central_slice_from_band($self, /, band_wavelengths, apply_mask=True,\n"
"                                 apply_min_cutoff=False, normalize=True)\n"
"--\n"
"\n"
"The band at m // 2 of m wavelengths in ascending order; see extract_band_by_name().\n"
"\n"
"Parameters\n"
"----------\n"
"band_wavelengths : torch.Tensor, numpy.ndarray, list or tuple\n"
"    Wavelengths of the image, nm.\n"
BAND_PARAMETERS
"normalize : bool\n"
"    Stretch the band to [0, 1].\n"
"\n"
"Returns\n"
"-------\n"
"torch.Tensor\n"
"    The two spatial axes in the image's order.\n"
"\n"
"Raises\n"
"------\n"
"ValueError\n"
"    No wavelength, or one that the image does not have.");

PyDoc_STRVAR(model_copy_doc,
"model_copy($self, /, *, update=None, deep=False)\n"
"--\n"
"\n"
"A copy that shares image, wavelengths and mask.\n"
"\n"
"Parameters\n"
"----------\n"
"update : dict or None\n"
"    Attributes to set on the copy.\n"
"deep : bool\n"
"    Copy the values too.\n"
"\n"
"Returns\n"
"-------\n"
"HSI");

PyDoc_STRVAR(stack_doc,
"stack($type, images, /, *, wavelengths, orientation=('C', 'H', 'W'), device=None, binary_mask=None)\n"
"--\n"
"\n"
"The images of one array, as a list that methods take: views, no copies.\n"
"\n"
"Parameters\n"
"----------\n"
"images : torch.Tensor, numpy.ndarray, DLPack or buffer object\n"
"    (n, C, H, W), or the last three in the order of orientation.\n"
"wavelengths, orientation, device\n"
"    As for HSI, the same for all images.\n"
"binary_mask : torch.Tensor, numpy.ndarray, 'artificial' or None\n"
"    As for HSI, for all images; with four axes, one for each.\n"
"\n"
"Returns\n"
"-------\n"
"list of HSI\n"
"\n"
"Raises\n"
"------\n"
"ShapeMismatchError\n"
"    images has not four axes, or there are more or fewer masks.\n"
"TypeError, ValueError\n"
"    As for HSI.\n"
"\n"
"Examples\n"
"--------\n"
">>> len(HSI.stack(torch.rand(8, 3, 20, 30), wavelengths=[480.0, 560.0, 650.0]))\n"
"8");

#undef BAND_PARAMETERS

/* clang-format on */

#endif
